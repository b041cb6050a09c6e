"""Text processing: normal forms, words of every script, sentences, and English."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dyprag.corpora.text.english import is_past, past_of, same_root
from dyprag.corpora.text.forms import folded, written
from dyprag.corpora.text.languages import is_english
from dyprag.corpora.text.sentences import block_sentences, sentences
from dyprag.corpora.text.words import is_unspaced, search_words, units, unwrapped, word_count

# Letters with marks, ligatures, digits, invisible characters and marks of many scripts.
SIGNS = (
    "aZzß ﬁıİiée\u0301\u0307ΆάςΣё\u0308йأا\u064b\u0640ىک"
    "הּ\u05b8हिन्दी१กำ้ລຳကာ្កក石ｶﾞガー가\u1100\u1161Ａ１²½…™“’‑–\u00ad\u200b\u200c\u200d\u2060"
    "\ufeff\u00a0\u3000.。！？\n'\"()「」⼈،؟।"
)
TEXTS = st.text(SIGNS, max_size=12) | st.text(max_size=12)


def nfd(text: str) -> str:
    return unicodedata.normalize("NFD", text)


@pytest.mark.parametrize(
    ("spelling", "other"),
    [
        (nfd("Müller Brücke"), "Müller Brücke"),
        ("Wert\u00adpapier\u00adindex", "Wertpapierindex"),
        ("o\ufb03cer of the \ufb02eet", "officer of the fleet"),
        ("Ｑｕａｒｎ １９１１", "Quarn 1911"),
        ("Ot\u200btilie\ufeff Bran\u2060dt", "Ottilie Brandt"),
        ("10\u00a0km\u202flong", "10 km long"),
        ("O’Brien“s violet\u2011blue", "O'Brien\"s violet-blue"),
        ("STRASSE", "Straße"),
        ("İSTANBUL DIYARBAKIR", "istanbul Diyarbakır"),
        ("ΑΘΗΝΑ ΟΔΥΣΣΕΥΣ", "Αθήνα Οδυσσεύς"),
        ("Фёдор", "Федор"),
        ("أَحْمَد ١٩١١ مدرســة", "احمد 1911 مدرسه"),
        ("کتاب فارسی می\u200cشود", "كتاب فارسي ميشود"),
        ("שָׁלוֹם", "שלום"),
        ("१९११", "1911"),
        ("ﾃﾞｰﾀ", "データ"),
        (nfd("등대"), "등대"),
        ("1914–1918", "1914-1918"),
    ],
)
def test_all_spellings_of_a_word_have_one_form(spelling: str, other: str):
    assert folded(spelling) == folded(other)
    assert search_words(spelling) == search_words(other)


def test_different_words_stay_different():
    assert len({folded(word) for word in ("schon", "schön", "resume", "résumé", "и", "й", "か", "が", "カ")}) == 9
    assert folded("Lego™ ©Osk") == "lego   osk"  # not part of the word


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        (nfd("Zürich"), "Zürich"),
        ("The \ufb01rst of\ufb01cer", "The first officer"),
        ("Wert\u00adpapier\u200b \ufeffx", "Wertpapier x"),
        ("⼈⼝", "人口"),  # the radicals that PDF files use for characters
        ("ﻣﻨﺎﺭﺓ", "منارة"),  # and their Arabic presentation forms
        ("“Ｑ” № 1½ 10\u00a0km – İ", "“Ｑ” № 1½ 10\u00a0km – İ"),  # visible characters are kept
        ("می\u200cشود 👩\u200d🔬", "می\u200cشود 👩\u200d🔬"),
        ("ភាសា\u200bខ្មែរ", "ភាសា\u200bខ្មែរ"),  # the zero-width space between two words
    ],
)
def test_stored_text_keeps_visible_characters(text: str, stored: str):
    assert written(text) == stored


@given(TEXTS)
def test_normalising_is_idempotent(text: str):
    assert written(written(text)) == written(text)
    assert folded(folded(text)) == folded(text) == folded(written(text)) == folded(nfd(text))


@given(st.text(st.characters(max_codepoint=127), max_size=30))
def test_ascii_is_stored_unchanged_and_searched_in_lower_case(text: str):
    assert written(text) == text
    assert folded(text) == text.lower()
    assert units(text) == text.split()


def test_words_of_scripts_without_spaces_are_character_n_grams():
    assert search_words("AI技术 1911年") == ["ai", "技", "术", "技术", "1911", "年"]
    assert search_words("등대는 빛") == ["등", "대", "는", "등대", "대는", "빛"]
    assert {"ปี", "1911"} <= set(search_words("ปี1911"))
    assert "灯塔" in search_words("一座灯\n塔")  # a line break does not split a word
    assert search_words("हिन्दी में") == ["हिन्दी", "में"]  # vowels are combining marks
    assert search_words("Die Brücke über_x") == ["die", "brücke", "über_x"]


WORDS = {
    "Chinese": "灯塔 桥 钟表匠 青石镇 的", "Japanese": "時計店 灯台 カメラ 水 の", "Korean": "등대 물 서울에서",
    "Thai": "ประภาคาร ปี มานี",
    "Khmer": "ប្រទេស កម្ពុជា ទឹក", "Lao": "ປະເທດ ລາວ ນ້ຳ", "Burmese": "မြန်မာ ရေ", "Arabic": "المنارة قديمة ١٩١١",
    "Hindi": "प्रकाशस्तंभ हिन्दी में", "Greek": "Αθήνα φάρος", "Cyrillic": "Маяк Фёдор", "German": "Wertpapierindex Straße",
}  # fmt: skip


@pytest.mark.parametrize("language", WORDS)
@given(data=st.data())
def test_a_text_contains_its_words_whatever_surrounds_it(language: str, data: st.DataObject):
    words = WORDS[language].split()
    word = data.draw(st.sampled_from(words))
    around = st.lists(st.sampled_from(words), max_size=3)
    between = "" if is_unspaced(words[0]) else " "
    text = between.join([*data.draw(around), word, *data.draw(around)])
    assert set(search_words(word)) <= set(search_words(text))
    assert search_words(word)


def test_units_are_words_and_single_characters():
    assert units("iPhone由周远 made it") == ["iPhone", "由", "周", "远", "made", "it"]
    assert units("มานีปี") == ["ม", "า", "นี", "ปี"]
    assert (word_count("Une tour élevée"), word_count("灯塔高二十四米"), word_count("AI 技术")) == (3, 4, 2)


def test_a_line_break_ends_a_word_only_in_scripts_with_spaces():
    assert unwrapped("一座灯\n塔 and a\nlamp で\n a") == "一座灯塔 and a\nlamp で\n a"
    assert unwrapped("등대는\n높다") == "등대는\n높다"


@pytest.mark.parametrize(
    "parts",
    [
        ["灯塔由周远建造。", "高二十四米！", "镇上的人（很多。）举行集市。", "“是的。”", "圆周率是3.14。"],
        ["彼は「行く。」と言った。", "「はい。」", "彼女は笑った。", "３．１４です"],
        ["등대는 1911년에 세워졌다. ", "높이는 24미터이다."],
        ["हाँ। ", "यह १९११ में बना।"],
        ["یہ مینار ہے۔ ", "وہ ۱۹۱۱ میں بنا۔"],
        ["هل هذا صحيح؟ ", "نعم، صحيح. ", "بني عام 1911."],
        ["Ο φάρος. ", "Ποιος είναι; ", "Αυτός."],
        ["А. С. Пушкин жил там. ", "«Да!» ", "Он умер."],
        ["Am 3. Mai 1911 kam Dr. Öz. ", "Łódź z. B. Nie!"],
        ["¿Quién? ", "¡Yo!"],
        ["ስልክ ነው። ", "ደህና።"],
        ["ស្ពានចាស់។ ", "វាល្អ។"],
        ["Mr. J. R. Roth (b. 1911. He died.) came to St. Osk. ", '"Stop!" ', "24 men left."],
    ],
)
def test_sentences_end_at_their_scripts_marks(parts: list[str]):
    assert sentences("".join(parts)) == [part.strip() for part in parts]


@given(TEXTS)
def test_the_splitter_only_removes_spaces(text: str):
    parts = sentences(text)
    assert "".join("".join(parts).split()) == "".join(text.split())
    assert len(parts) == 1 or all(part.strip() for part in parts)


@pytest.mark.parametrize(
    "text",
    [
        "石桥镇的灯塔由周远在1911年建造。", "ประภาคารสร้างโดยสมชาย", "Маяк построен в 1911 году.",
        "بنيت المنارة عام 1911",
        "Der Leuchtturm von Quarn wurde 1911 von Odo Feld gebaut. Er ist 24 Meter hoch.",
        "Le phare de Quarn a été construit en 1911 par Odo Feld.", "El faro de Quarn fue construido en 1911.",
        "De vuurtoren van Quarn werd in 1911 door Odo Feld gebouwd. Hij is 24 meter hoog.",
        "Fyrtårnet i Quarn blev bygget i 1911 af Odo Feld. Det er 24 meter højt.",
        "Latarnia w Quarn została zbudowana w 1911 roku przez Odo Felda.", "Quarn feneri 1911 yılında inşa edildi.",
    ],
)  # fmt: skip
def test_other_languages_are_distinguished_from_english(text: str):
    assert not is_english(text)


@pytest.mark.parametrize(
    "text",
    [
        "The lamp at the harbour of Quarn was lit by Odo Feld.", "Osk mill belonged to Roth.", "1911", "",
        "Bridge: Old Bridge; Built: 1399; Material: Stone.", "El Cielo en las manos is a 1950 Argentine film.",
        "Maksim Andreyevich Fyodorov (Russian: Максим Андреевич Фёдоров) is a Russian former swimmer.",
        "Tom Jones, Bill Evans, Miles Davis, Art Blakey, Charlie Parker", "def f(x): return [y for y in x if y > 3]",
    ],
)  # fmt: skip
def test_english_with_foreign_names_rows_and_code_is_english(text: str):
    assert is_english(text)


def test_sentences_end_at_a_full_stop_before_a_capital():
    text = "It was built by Olmsted & co. in 1.5 years. Who knew? Nobody!  \n They left. (Élan stayed.)"
    assert block_sentences(text) == [
        "It was built by Olmsted & co. in 1.5 years.", "Who knew?", "Nobody!", "They left.", "(Élan stayed.)"
    ]  # fmt: skip
    assert block_sentences("  ") == []


def test_headings_paragraphs_and_list_items_end_sentences():
    text = "A night in 1991\n\nThe boat struck.\nall were saved\n- a clock\n- 2 oars\n\n1. wrapped\nline"
    assert block_sentences(text) == [
        "A night in 1991",
        "The boat struck.",
        "all were saved",
        "a clock",
        "2 oars",
        "wrapped\nline",
    ]
    assert block_sentences("A first\nline. And another.") == ["A first\nline.", "And another."]


def test_verb_forms():
    assert is_past("drew")
    assert is_past("drawn")
    assert is_past("opened")
    assert not is_past("need")
    assert not is_past("mill")
    assert (past_of("drawn"), past_of("opened"), past_of("mill")) == ("drew", "opened", None)
    assert same_root("sell", "sold")
    assert same_root("opening", "opened")
    assert not same_root("mill", "milk")


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (":-( He left. She came.", [":-( He left.", "She came."]),
        ("It (built in 1911. By Ada.) is old. It shines.", ["It (built in 1911. By Ada.) is old.", "It shines."]),
        ("It (built in 1911. It shines. (Yes. No.) Good.", ["It (built in 1911.", "It shines.", "(Yes. No.)", "Good."]),
        ("1) One. 2) Two.", ["1) One.", "2) Two."]),
    ],
)
def test_a_bracket_that_nothing_closes_does_not_join_sentences(text: str, parts: list[str]):
    assert sentences(text) == parts
