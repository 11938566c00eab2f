"""The strings that English tokenization splits by a table of its own: contractions, times, abbreviations, emoticons.

What leaves: `EXCEPTIONS`, string → its words; joined, the words are the string. Invariant: the table is that of spaCy
3.8's blank English (`lang/en/tokenizer_exceptions.py`, `lang/tokenizer_exceptions.py`, MIT licence), built here from
the families it is made of; strings of white space are left out, since they make no words.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_LETTERS: Final = ("a. b. c. d. e. f. g. h. i. j. k. l. m. n. o. p. q. r. s. t. u. v. w. x. y. z. ä. ö. ü.").split()  # noqa: SIM905
_WHOLE: Final = r"""
\t \n — ' \") <space> '' C++ em 'em ll 'll nuff 'nuff 'S 's ‘S ‘s 're 'Cause 'cause 'cos 'Cos 'coz 'Coz 'cuz 'Cuz 'bout
'd ma'am Ma'am o'clock O'clock and/or w/o a.m. p.m. co. e.g. i.e. vs. v.s. E.g. E.G. I.e. I.E. Mt. Ak. Ala. Apr. Ariz.
Ark. Aug. Calif. Colo. Conn. Dec. Del. Feb. Fla. Ga. Ia. Id. Ill. Ind. Jan. Jul. Jun. Kan. Kans. Ky. La. Mar. Mass.
Mich. Minn. Miss. N.C. N.D. N.H. N.J. N.M. N.Y. Neb. Nebr. Nev. Nov. Oct. Okla. Ore. Pa. S.C. Sep. Sept. Tenn. Va.
Wash. Wis. Adm. Bros. Co. Corp. D.C. Dr. Gen. Gov. Inc. Jr. Ltd. Md. Messrs. Mo. Mont. Mr. Mrs. Ms. Ph.D. Prof. Rep.
Rev. Sen. St.
"""
_EMOTICONS: Final = r"""
:) :-) :)) :-)) :))) :-))) (: (-: =) (= :] :-] [: [-: [= =] :o) (o: :} :-} 8) 8-) (-8 ;) ;-) (; (-; :( :-( :(( :-((
:((( :-((( ): )-: =( >:( :') :'-) :'( :'-( :/ :-/ =/ =| :| :-| ]= =[ :1 :P :-P :p :-p :O :-O :o :-o :0 :-0 :() >:o :*
:-* :3 :-3 =3 :> :-> :X :-X :x :-x :D :-D ;D ;-D =D xD XD xDD XDD 8D 8-D ^_^ ^__^ ^___^ >.< >.> <.< ._. ;_; -_- -__-
v.v V.V v_v V_V o_o o_O O_o O_O 0_o o_0 0_0 o.O O.o O.O o.o 0.0 o.0 0.o @_@ <3 <33 <333 </3 (^_^) (-_-) (._.) (>_<)
(*_*) (¬_¬) ಠ_ಠ ಠ︵ಠ (ಠ_ಠ) ¯\(ツ)/¯ (╯°□°）╯︵┻━┻ ><(((*>
"""
_DROPPED_G: Final = ("doin", "goin", "nothin", "nuthin", "ol", "somethin", "lovin", "havin")
_PARTS: Final = (
    "y' all|y all|how 'd 'y|How 'd 'y|not 've|not ve|Not 've|Not ve|can not|Can not|gon na|Gon na|got ta|Got ta|"
    "let 's|Let 's|c'm on|C'm on"
)
# Contractions that, without their apostrophe, are words of their own.
_WORDS_THEMSELVES: Final = {"ill", "its", "hell", "shell", "shed", "were", "well", "whore"}
_LIKE_PRONOUNS: Final = ("who", "what", "when", "where", "why", "how", "there", "that", "this", "these", "those")
_WITH_NOT_HAVE: Final = (
    "ca could do does did had may might must need ought sha should wo would",
    "ai are is was were have has dare",
)


def _endings() -> Iterator[tuple[str, str]]:
    """Word and the apostrophised endings it takes, the ones of a group divided by "+"."""
    yield "i", "'m 'm+a"
    for word in ("i", "you", "he", "she", "it", "we", "they"):
        yield word, "'ll 'll+'ve 'd 'd+'ve"
    for word in ("i", "you", "we", "they"):
        yield word, "'ve"
    for word in ("you", "we", "they"):
        yield word, "'re"
    for word in ("he", "she", "it"):
        yield word, "'s"
    for word in _LIKE_PRONOUNS:
        yield word, "'ll 'll+'ve 'd 'd+'ve"
        if word not in ("these", "those"):
            yield word, "'s"
        if word not in ("that", "this"):
            yield word, "'re 've"
    for word in _WITH_NOT_HAVE[0].split():
        yield word, "n't n't+'ve"
    for word in ("could", "might", "must", "should", "would"):
        yield word, "'ve"
    for word in _WITH_NOT_HAVE[1].split():
        yield word, "n't"


def _table() -> dict[str, tuple[str, ...]]:
    """Every exception with the straight apostrophe, and again with the curly one."""
    splits: list[tuple[str, ...]] = [(word,) for word in (*_LETTERS, *_WHOLE.split(), *_EMOTICONS.split())]
    splits += [("°", unit, ".") for unit in "cfkCFK"]
    for stem in _DROPPED_G:
        splits += [(f"{word}{end}",) for word in (stem, stem.title()) for end in ("", "'")]
    splits += [(f"{hour}", half) for hour in range(1, 13) for half in ("a.m.", "am", "p.m.", "pm")]
    splits += [tuple(parts.split()) for parts in _PARTS.split("|")]
    for stem, endings in _endings():
        for word in (stem, stem.title()):
            for ending in endings.split():
                parts = ending.split("+")
                splits.append((word, *parts))
                bare = (word, *(part.replace("'", "") for part in parts))
                if "".join(bare).lower() not in _WORDS_THEMSELVES:
                    splits.append(bare)
    curly = [tuple(part.replace("'", "’") for part in parts) for parts in splits]
    return {"".join(parts): parts for parts in (*splits, *curly)}


EXCEPTIONS: Final = _table()
LONGEST: Final = max(map(len, EXCEPTIONS))
