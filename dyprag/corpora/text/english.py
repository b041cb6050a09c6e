"""English word lists and verb forms, used to analyse passages and questions."""

import re

# Function words and common verbs, which end a span, so that spans are names and noun phrases.
BREAKS = frozenset(
    """
    a an the and or but nor so yet of in on at by for to from with without into onto over under after before between
    above below behind beside beneath across along around inside outside within upon toward towards beyond among
    through during until since as than that which who whom whose what when where why how this these those it its he
    she they them his her their him i you we our us your my me is are was were be been being am do does did done has
    have had having will would can could shall should may might must not no only also very too more most much many
    any all each every some such own other another one there here then now once still never always ever again just
    even both either neither if because while although though up down out off about against per via like near called
    named known nicknamed made makes make built build builds founded found opened open began begin begins become
    became won sold sells said says took take takes gave give gives came come comes went goes run runs ran keep
    keeps kept held holds carries carry wrote write writes born employ employs employed weighs weigh measures leave
    leaves left bring brings brought lies lie stands stand hangs remains remain seen use uses used serve served
    serves start started starts destroyed sets commanded remembered reports learned spent invented designed
    discovered launched elected introduced directed published lives lived works worked painted carved played plays
    """.split()
)
MONTHS = frozenset("january february march april may june july august september october november december".split())
NUMBERS = frozenset(
    """
    two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen
    nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred thousand million
    """.split()
)
PLURALS = frozenset("people men women children sheep fish feet mice geese teeth".split())
ORDINALS = frozenset("first second third fourth fifth last next previous same only".split())
TIME_UNITS = frozenset("second minute hour day night week month year decade".split())
TIME_UNITS |= {f"{unit}s" for unit in TIME_UNITS}
PLACE_KINDS = frozenset(
    """
    town village city county country province district island river lake sea bay mountain hill valley port harbour
    street square castle palace monastery abbey parish state region kingdom planet
    """.split()
)
# Words that carry no information of their own in a question.
LIGHT = frozenset(
    """
    a an the of in on at by for to from with into about and or as not no is are was were be been do does did has have
    had it its he his she her they their that this there who whom whose which what where when how many much year name
    """.split()
)
# Base form, past and participle of irregular verbs, then other words of the same root.
_IRREGULAR = [
    tuple(forms.split())
    for forms in (
        "build built built builder", "begin began begun", "bear bore born birth", "blow blew blown",
        "break broke broken",
        "bring brought brought", "buy bought bought", "catch caught caught", "choose chose chosen", "come came come",
        "draw drew drawn", "drive drove driven driver", "eat ate eaten", "fall fell fallen", "feed fed fed",
        "fight fought fought", "find found found", "fly flew flown", "give gave given", "go went gone",
        "grow grew grown", "hang hung hung", "hide hid hidden", "hold held held holder", "keep kept kept keeper",
        "know knew known", "lay laid laid", "lead led led leader", "leave left left", "lose lost lost loss",
        "make made made maker", "pay paid paid", "ride rode ridden rider",
        "ring rang rung", "rise rose risen", "run ran run",
        "see saw seen", "sell sold sold sale", "send sent sent", "sing sang sung singer", "sink sank sunk",
        "sleep slept slept", "speak spoke spoken", "spend spent spent", "stand stood stood", "steal stole stolen",
        "swim swam swum", "take took taken", "teach taught taught teacher", "tell told told", "throw threw thrown",
        "wear wore worn", "win won won winner", "write wrote written writer",
    )
]  # fmt: skip
_ROOT = {form: number for number, forms in enumerate(_IRREGULAR) for form in forms}
_PAST = {forms[2]: forms[1] for forms in _IRREGULAR}
_PASTS = frozenset(_PAST.values())
_ENDED = re.compile(r"(?!(?:hundr|inde)ed$)\w\w*[^e\W]ed")  # not need, seed, breed


def is_past(word: str) -> bool:
    """Whether a word looks like a past tense or past participle."""
    return word in _PASTS or word in _PAST or _ENDED.fullmatch(word) is not None


def past_of(participle: str) -> str | None:
    """Return the past tense of a participle (drawn: drew); None if the word is not a participle."""
    return _PAST.get(participle) or (participle if _ENDED.fullmatch(participle) else None)


def same_root(first: str, second: str) -> bool:
    """Whether two words are forms of the same word, judged by spelling: sell and sold, opened and opening."""
    if first == second or (first in _ROOT and _ROOT[first] == _ROOT.get(second)):
        return True
    first, second = first.rstrip("ey"), second.rstrip("ey")
    shorter = min(len(first), len(second))
    prefix = shorter if shorter < 6 else shorter - 2
    return shorter > 2 and abs(len(first) - len(second)) <= 4 and first[:prefix] == second[:prefix]
