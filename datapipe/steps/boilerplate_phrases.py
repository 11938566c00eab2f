"""Phrases of the lines that web pages carry beside their text: consent to cookies, policies, newsletters, sharing.

A line that holds one, and is short, is none of the author's. Compared without regard to case. The English policy
phrases are those of C4 (Raffel et al. 2020, arXiv:1910.10683, section 2.2; the list as in datatrove 0.10,
`c4_filters.py`); the others are what consent banners, footers and share buttons of the same kind say in other
languages. None is a phrase that prose about the matter is likely to have in a short line: "cookie" alone is not among
them.
"""

from __future__ import annotations

from typing import Final

POLICY_PHRASES: Final = (
    # English: C4
    "terms of use",
    "privacy policy",
    "cookie policy",
    "uses cookies",
    "use of cookies",
    "use cookies",
    # English: banners, footers, buttons
    "accept all cookies",
    "cookie settings",
    "cookie preferences",
    "terms of service",
    "terms and conditions",
    "all rights reserved",
    "subscribe to our newsletter",
    "sign up for our newsletter",
    "follow us on",
    "share on facebook",
    "share on twitter",
    "share on linkedin",
    "skip to content",
    "skip to main content",
    "please enable javascript",
    # German
    "verwendet cookies",
    "verwenden cookies",
    "verwendung von cookies",
    "alle cookies akzeptieren",
    "cookie-einstellungen",
    "datenschutzerklärung",
    "nutzungsbedingungen",
    "alle rechte vorbehalten",
    "newsletter abonnieren",
    "zum inhalt springen",
    # French
    "utilise des cookies",
    "utilisation de cookies",
    "accepter tous les cookies",
    "politique de confidentialité",
    "conditions d'utilisation",
    "conditions d’utilisation",
    "mentions légales",
    "tous droits réservés",
    "partager sur facebook",
    "aller au contenu",
    # Spanish
    "utiliza cookies",
    "utilizamos cookies",
    "uso de cookies",
    "aceptar todas las cookies",
    "política de privacidad",
    "política de cookies",
    "aviso legal",
    "términos de uso",
    "todos los derechos reservados",
    "compartir en facebook",
    "saltar al contenido",
    # Italian
    "utilizza cookie",
    "utilizza i cookie",
    "accetta tutti i cookie",
    "informativa sulla privacy",
    "tutti i diritti riservati",
    "vai al contenuto",
    # Portuguese
    "usa cookies",
    "aceitar todos os cookies",
    "política de privacidade",
    "todos os direitos reservados",
    "pular para o conteúdo",
    # Dutch
    "maakt gebruik van cookies",
    "gebruikt cookies",
    "alle cookies accepteren",
    "privacyverklaring",
    "alle rechten voorbehouden",
    # Polish, Czech
    "wykorzystuje pliki cookie",
    "używa plików cookie",
    "polityka prywatności",
    "wszelkie prawa zastrzeżone",
    "používá soubory cookie",
    "všechna práva vyhrazena",
    # Nordic
    "använder cookies",
    "bruger cookies",
    "bruker informasjonskapsler",
    "integritetspolicy",
    "personvernerklæring",
    # Russian, Ukrainian
    "использует файлы cookie",
    "используем файлы cookie",
    "политика конфиденциальности",
    "все права защищены",
    "політика конфіденційності",
    "усі права захищені",
    # Turkish, Greek
    "gizlilik politikası",
    "tüm hakları saklıdır",
    "πολιτική απορρήτου",
    # Chinese, Japanese, Korean
    "隐私政策",
    "隱私政策",
    "版权所有",
    "版權所有",
    "使用cookie",
    "プライバシーポリシー",
    "利用規約",
    "無断転載を禁じます",
    "개인정보처리방침",
    "개인정보 처리방침",
    "이용약관",
    # Arabic, Hebrew
    "سياسة الخصوصية",
    "جميع الحقوق محفوظة",
    "מדיניות פרטיות",
    "כל הזכויות שמורות",
)
