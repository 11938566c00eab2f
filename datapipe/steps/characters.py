"""Character classes and units that the splitting of English text into words and sentences, and the rules on words, use.

What leaves: frozen sets of characters, and their form inside a regular expression. Invariant: the sets are those of
spaCy 3.8 (`lang/char_classes.py`, `lang/punctuation.py`, `pipeline/sentencizer.pyx`, MIT licence) and of datatrove 0.10
(`utils/text.py`, Apache-2.0), character by character; they are written as ranges of code points ("61-7a", "100-136/2"
for every second one), so that neither package is needed.
"""

from __future__ import annotations

import re
from typing import Final


def _points(ranges: str) -> tuple[range, ...]:
    """The code points of ranges."""
    spans = []
    for each in ranges.split():
        span, _, step = each.partition("/")
        first, _, last = span.partition("-")
        spans.append(range(int(first, 16), int(last or first, 16) + 1, int(step or 1)))
    return tuple(spans)


def _characters(ranges: str) -> frozenset[str]:
    """The characters of ranges of code points, hexadecimal, divided by spaces."""
    return frozenset(chr(point) for span in _points(ranges) for point in span)


def _inside_class(ranges: str) -> str:
    """Ranges of code points as they stand between the brackets of a character class."""
    parts = []
    for span in _points(ranges):
        if span.step == 1:
            parts.append(f"{re.escape(chr(span[0]))}-{re.escape(chr(span[-1]))}")
        else:
            parts += [re.escape(chr(point)) for point in span]
    return "".join(parts)


_UNCASED: Final = (
    "591-5f4 620-64a 66e-6d5 6e5-6ff 750-77f 8a0-8bd 900-9ff b80-cff d80-dff 1100-137f 2e80-2fdf 2ff0-30ff "
    "31c0-31ef 3200-4dbf 4e00-9fff ac00-d7af f900-faff fb1d-fbb1 fbd3-fd3d fd50-fdc7 fdf0-fdfb fe30-fe4f "
    "fe70-fefc 1ee00-1eebb 1f200-1f2ff 20000-2a6df 2a700-2ebef 2f800-2fa1f"
)
_LOWER: Final = (
    "61-7a df-f6 f8-ff 101-135/2 137-138 13a-146/2 148-149 14b-177/2 17a 17c 17e-180 183 185 188 18c-18d 192 195 "
    "199-19b 19e 1a1-1a5/2 1a8 1aa-1ab 1ad 1b0 1b4 1b6 1b9-1ba 1bd-1bf 1c6 1c9 1cc-1da/2 1dc-1dd 1df-1ed/2 "
    "1ef-1f0 1f3 1f5 1f9-231/2 233-239 23c 23f-240 242 247-24d/2 24f-2af 3ac-3af 3b1-3c9 3cc-3ce 430-451 453-45a "
    "45c-45d 491 497 4a3 4af 4bb 4d9 4e9 1d00-1d25 1d6b-1d77 1d79-1d9a 1e01-1e93/2 1e95-1e9d 1e9f-1eff/2 2c61 "
    "2c65-2c66 2c68-2c6c/2 2c71 2c73-2c74 2c76-2c7b a723-a72d/2 a72f-a731 a733-a76f/2 a771-a778 a77a a77c "
    "a77f-a787/2 a78c a78e a791 a793-a795 a797-a7a9/2 a7af a7b5-a7b9/2 a7fa ab30-ab5a ab60-ab64 ff41-ff5a"
)
_UPPER: Final = (
    "41-5a c0-d6 d8-de 100-136/2 139-147/2 14a-176/2 178-179 17b 17d 181-182 184 186-187 189-18b 18e-191 193-194 "
    "196-198 19c-19d 19f-1a0 1a2 1a4 1a6-1a7 1a9 1ac 1ae-1af 1b1-1b3 1b5 1b7-1b8 1bc 1c4 1c7 1ca 1cd-1db/2 "
    "1de-1ee/2 1f1 1f4 1f6-1f8 1fa-232/2 23a-23b 23d-23e 241 243-246 248-24e/2 386 388-38a 38c 38e-38f 391-3a9 "
    "400-401 403-40a 40c-40d 410-42f 490 496 4a2 4ae 4ba 4d8 4e8 1e00-1e94/2 1e9e-1efe/2 2c60 2c62-2c64 "
    "2c67-2c6b/2 2c6d-2c70 2c72 2c75 2c7e-2c7f a722-a72e/2 a732-a76e/2 a779 a77b a77d-a77e a780-a786/2 a78b a78d "
    "a790 a792 a796-a7a8/2 a7aa-a7ae a7b0-a7b4 a7b6 a7b8 ff21-ff3a"
)
_TITLE: Final = "1bb 1c5 1c8 1cb 1f2"
_ICONS: Final = (
    "a6 a9 ae b0 482 58d-58e 60e-60f 6de 6e9 6fd-6fe 7f6 9fa b70 bf3-bf8 bfa c7f d4f d79 f01-f03 f13 f15-f17 "
    "f1a-f1f f34-f38/2 fbe-fc5 fc7-fcc fce-fcf fd5-fd8 109e-109f 1390-1399 1940 19de-19ff 1b61-1b6a 1b74-1b7c "
    "2100-2101 2103-2106 2108-2109 2114 2116-2117 211e-2123 2125-2129/2 212e 213a-213b 214a 214c-214d 214f "
    "218a-218b 2195-2199 219c-219f 21a1-21a2 21a4-21a5 21a7-21ad 21af-21cd 21d0-21d1 21d3 21d5-21f3 2300-2307 "
    "230c-231f 2322-2328 232b-237b 237d-239a 23b4-23db 23e2-2426 2440-244a 249c-24e9 2500-25b6 25b8-25c0 "
    "25c2-25f7 2600-266e 2670-2767 2794-27bf 2800-28ff 2b00-2b2f 2b45-2b46 2b4d-2b73 2b76-2b95 2b98-2bc8 "
    "2bca-2bfe 2ce5-2cea 2e80-2e99 2e9b-2ef3 2f00-2fd5 2ff0-2ffb 3004 3012-3013 3020 3036-3037 303e-303f "
    "3190-3191 3196-319f 31c0-31e3 3200-321e 322a-3247 3250 3260-327f 328a-32b0 32c0-32fe 3300-33ff 4dc0-4dff "
    "a490-a4c6 a828-a82b a836-a837 a839 aa77-aa79 fdfd ffe4 ffe8 ffed-ffee fffc-fffd 10137-1013f 10179-10189 "
    "1018c-1018e 10190-1019b 101a0 101d0-101fc 10877-10878 10ac8 1173f 16b3c-16b3f 16b45 1bc9c 1d000-1d0f5 "
    "1d100-1d126 1d129-1d164 1d16a-1d16c 1d183-1d184 1d18c-1d1a9 1d1ae-1d1e8 1d200-1d241 1d245 1d300-1d356 "
    "1d800-1d9ff 1da37-1da3a 1da6d-1da74 1da76-1da83 1da85-1da86 1ecac 1f000-1f02b 1f030-1f093 1f0a0-1f0ae "
    "1f0b1-1f0bf 1f0c1-1f0cf 1f0d1-1f0f5 1f110-1f16b 1f170-1f1ac 1f1e6-1f202 1f210-1f23b 1f240-1f248 1f250-1f251 "
    "1f260-1f265 1f300-1f3fa 1f400-1f6d4 1f6e0-1f6ec 1f6f0-1f6f9 1f700-1f773 1f780-1f7d8 1f800-1f80b 1f810-1f847 "
    "1f850-1f859 1f860-1f887 1f890-1f8ad 1f900-1f90b 1f910-1f93e 1f940-1f970 1f973-1f976 1f97a 1f97c-1f9a2 "
    "1f9b0-1f9b9 1f9c0-1f9c2 1f9d0-1f9ff 1fa60-1fa6d"
)

ALPHA_POINTS: Final = _points(f"{_UNCASED} {_LOWER} {_UPPER} {_TITLE}")
LOWER_POINTS: Final = _points(f"{_UNCASED} {_LOWER}")
UPPER_POINTS: Final = _points(f"{_UNCASED} {_UPPER}")
"""Letters; scripts without case belong to all three classes."""
ALPHA: Final = _inside_class(f"{_UNCASED} {_LOWER} {_UPPER} {_TITLE}")
"""The same as the inside of a character class."""
ALPHA_LOWER: Final = _inside_class(f"{_UNCASED} {_LOWER}")
ALPHA_UPPER: Final = _inside_class(f"{_UNCASED} {_UPPER}")
ICONS_CLASS: Final = _inside_class(_ICONS)
ICONS: Final = _characters(_ICONS)
"""Symbols and pictographs (most of Unicode's category So)."""
PUNCTUATION_MARKS: Final = _characters(
    "21 23 26 28-2a 2c 3a-3c 3e-3f 5b-5f/2 7b 7d a1 b7 bf 60c 61b 61f 66a 6d4 964 2026 3001-3002 ff01 ff0c "
    "ff1a-ff1b ff1f ff5e"
)
QUOTES: Final = _characters(
    "22 27 2c 60 ab b4 bb 2018-201a 201c-201e 2329-232a 27e6-27e7 3008-3011 3014-3015 ff08-ff09"
)
CURRENCIES: Final = _characters("24 a3 a5 e3f 20a0-20bf fdfc")
"""Single characters; the others are those of `LONG_CURRENCIES`."""
LONG_CURRENCIES: Final = ("US$", "C$", "A$")
_UNITS: Final = (
    "km m dm cm mm ha nm yd in ft kg g mg t lb oz m/s km/h kmh mph hPa Pa mbar mb MB kb KB gb GB tb TB T "
    "G M K % "
    "km² km³ m² m³ dm² dm³ cm² cm³ mm² mm³ µm µg км км² км³ м м² м³ дм дм² дм³ см см² см³ мм мм² мм³ нм "
    "кг г мг м/с км/ч кПа Па мбар Кб КБ кб Мб МБ мб Гб ГБ гб Тб ТБ тбكم كم² كم³ م م² م³ سم سم² سم³ مم مم² "
    "مم³ كم غرام جرام جم كغ ملغ كوب اكواب"
)
UNITS: Final = frozenset(_UNITS.split())
"""Units after a number; the one of two scripts is spaCy's own slip, two lines of its list run into each other."""
SENTENCE_ENDS: Final = _characters(
    "21 2e 3f 589 61f 6d4 700-702 7f9 964-965 104a-104b 1362 1367-1368 166e 1735-1736 1803 1809 1944-1945 "
    "1aa8-1aab 1b5a-1b5b 1b5e-1b5f 1c3b-1c3c 1c7e-1c7f 203c-203d 2047-2049 2e2e 2e3c 3002 a4ff a60e-a60f a6f3 "
    "a6f7 a876-a877 a8ce-a8cf a92f a9c8-a9c9 aa5d-aa5f aaf0-aaf1 abeb fe52 fe56-fe57 ff01 ff0e ff1f ff61 "
    "10a56-10a57 11047-11048 110be-110c1 11141-11143 111c5-111c6 111cd 111de-111df 11238-11239 1123b-1123c "
    "112a9 1144b-1144c 115c2-115c3 115c9-115d7 11641-11642 1173c-1173e 11a42-11a43 11a9b-11a9c 11c41-11c42 "
    "16a6e-16a6f 16af5 16b37-16b38 16b44 1bc9f 1da88"
)
"""What spaCy's sentencizer takes for the end of a sentence, as a word of its own."""
TERMINAL_PUNCTUATION: Final = _characters(
    "21 2e 3f 589 61d-61f 6d4 700-702 7f9 837 839 83d-83e 964-965 104a-104b 1362 1367-1368 166e 1735-1736 "
    "17d4-17d6 17d9-17da 1803 1809 1944-1945 1aa8-1aab 1b5a-1b5b 1b5e-1b5f 1b7d-1b7e 1c3b-1c3c 1c7e-1c7f "
    "203c-203d 2047-2049 2e2e 2e3c 2e53-2e54 3002 a4ff a60e-a60f a6f3 a6f7 a876-a877 a8ce-a8cf a92f a9c8-a9c9 "
    "aa5d-aa5f aaf0-aaf1 abeb fe52 fe56-fe57 ff01 ff0e ff1f ff61 10a56-10a57 10f55-10f59 10f86-10f89 "
    "11047-11048 110be-110c1 11141-11143 111c5-111c6 111cd 111de-111df 11238-11239 1123b-1123c 112a9 "
    "1144b-1144c 115c2-115c3 115c9-115d7 11641-11642 1173c-1173e 11944 11946 11a42-11a43 11a9b-11a9c "
    "11c41-11c42 11ef7-11ef8 11f43-11f44 16a6e-16a6f 16af5 16b37-16b38 16b44 16e98 1bc9f 1da88"
)
"""What datatrove takes for the end of a line that is a sentence."""
_OTHER_PUNCTUATION: Final = _characters(
    "0-8 b-1f 22-2d 2f 3a-3e 40 5b-60 7b-9f ab b4 bb 2013-2014 2019 201c-201e 2026 2236 2501 25ba 3001 "
    "3008-300d 3010-3011 ff05 ff08-ff09 ff0c ff11 ff1a-ff1b ff5e"
)
PUNCTUATION_AND_CONTROLS: Final = TERMINAL_PUNCTUATION | _OTHER_PUNCTUATION
"""A word made of these alone is a symbol to datatrove's Gopher rules."""
WHITE_SPACE: Final = _characters("9-d 1c-20 85 a0 1680 2000-200a 2028-2029 202f 205f 3000")
"""Python's `str.isspace`; what `str.strip` and `str.split` take away."""
LINE_ENDS: Final = _characters("a-d 1c-1e 85 2028-2029")
"""What `str.splitlines` divides by."""
