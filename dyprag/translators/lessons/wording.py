"""Vocabulary and patterns of the extraction rules (occupations, countries, dates, names), and question wordings."""

import random
import re
from collections.abc import Collection

from dyprag.corpora.documents import QAPair
from dyprag.corpora.text.sentences import sentences as sentences

OCCUPATIONS = tuple(
    """politician journalist actor actress writer author novelist poet playwright screenwriter director producer
    composer singer songwriter musician guitarist pianist violinist drummer bassist cellist organist conductor rapper
    comedian painter sculptor architect photographer illustrator cartoonist animator designer engineer lawyer attorney
    judge jurist diplomat soldier historian philosopher priest bishop minister missionary rabbi monk economist
    physicist chemist mathematician astronomer biologist botanist zoologist entomologist geologist physician surgeon
    psychologist psychiatrist sociologist anthropologist archaeologist linguist philologist translator editor publisher
    librarian professor academic teacher businessman businesswoman entrepreneur banker merchant explorer aviator
    astronaut swimmer boxer wrestler cyclist footballer cricketer golfer gymnast fencer rower sprinter skier jockey
    nobleman noblewoman statesman filmmaker cinematographer dancer choreographer ballerina model activist critic
    essayist dramatist lyricist librettist printer inventor scientist nurse spy translator luger biathlete DJ
    songwriter broadcaster presenter theologian magician racewalker bobsledder
    film_director film_producer film_editor film_actor film_actress stage_actor stage_actress television_actor
    television_actress voice_actor voice_actress television_director television_producer theatre_director
    theater_director music_director television_presenter radio_presenter record_producer sound_editor art_director
    art_historian singer-songwriter opera_singer folk_singer playback_singer classical_composer film_composer
    short_story_writer screenwriter science_fiction_writer military_officer army_officer naval_officer civil_servant
    police_officer racing_driver football_player basketball_player baseball_player hockey_player ice_hockey_player
    tennis_player volleyball_player chess_player rugby_player handball_player water_polo_player field_hockey_player
    association_footballer football_coach basketball_coach figure_skater speed_skater alpine_skier cross-country_skier
    ski_jumper long-distance_runner middle-distance_runner track_and_field_athlete athlete fashion_designer
    costume_designer production_designer computer_scientist political_scientist human_rights_activist
    trade_unionist make-up_artist visual_artist martial_artist stunt_performer film_critic music_critic literary_critic
    literary_scholar Roman_Catholic_bishop Catholic_priest Anglican_bishop Anglican_priest
    """.replace("\n", " ").split()
)  # fmt: skip
OCCUPATIONS = tuple(dict.fromkeys(name.replace("_", " ") for name in OCCUPATIONS))
_PEOPLES = """Afghanistan:Afghan Albania:Albanian Algeria:Algerian Argentina:Argentine|Argentinian Armenia:Armenian
Australia:Australian Austria:Austrian Azerbaijan:Azerbaijani Bangladesh:Bangladeshi Belgium:Belgian Bolivia:Bolivian
Bosnia_and_Herzegovina:Bosnian Brazil:Brazilian Bulgaria:Bulgarian Cambodia:Cambodian Cameroon:Cameroonian
Canada:Canadian Chile:Chilean China:Chinese Colombia:Colombian Croatia:Croatian Cuba:Cuban
Czech_Republic:Czech Denmark:Danish Ecuador:Ecuadorian Egypt:Egyptian England:English Estonia:Estonian
Ethiopia:Ethiopian Finland:Finnish France:French Georgia:Georgian Germany:German Ghana:Ghanaian Greece:Greek
Hungary:Hungarian Iceland:Icelandic India:Indian Indonesia:Indonesian Iran:Iranian|Persian Iraq:Iraqi Ireland:Irish
Israel:Israeli Italy:Italian Jamaica:Jamaican Japan:Japanese Jordan:Jordanian Kazakhstan:Kazakh|Kazakhstani
Kenya:Kenyan Kosovo:Kosovan Latvia:Latvian Lebanon:Lebanese Libya:Libyan Lithuania:Lithuanian Malaysia:Malaysian
Malta:Maltese Mexico:Mexican Mongolia:Mongolian Montenegro:Montenegrin Morocco:Moroccan Myanmar:Burmese Nepal:Nepalese
Netherlands:Dutch New_Zealand:New_Zealand Nigeria:Nigerian North_Macedonia:Macedonian Norway:Norwegian
Pakistan:Pakistani Peru:Peruvian Philippines:Filipino Poland:Polish Portugal:Portuguese Romania:Romanian
Russia:Russian Scotland:Scottish Senegal:Senegalese Serbia:Serbian Singapore:Singaporean Slovakia:Slovak
Slovenia:Slovenian|Slovene South_Africa:South_African South_Korea:South_Korean|Korean Soviet_Union:Soviet Spain:Spanish
Sri_Lanka:Sri_Lankan Sudan:Sudanese Sweden:Swedish Switzerland:Swiss Syria:Syrian Taiwan:Taiwanese
Thailand:Thai Tunisia:Tunisian Turkey:Turkish|Ottoman Uganda:Ugandan Ukraine:Ukrainian United_Kingdom:British
United_States:American Uruguay:Uruguayan Venezuela:Venezuelan Vietnam:Vietnamese Wales:Welsh Zimbabwe:Zimbabwean"""
_BY_COUNTRY = dict(entry.replace("_", " ").split(":") for entry in _PEOPLES.split())
_FORMER = "Yugoslavia Czechoslovakia Prussia Bohemia Persia Burma Ceylon Rhodesia Siam Austria-Hungary USA".split()
COUNTRIES = frozenset((*_BY_COUNTRY, *_FORMER))
NATIONALITIES = frozenset(people for peoples in _BY_COUNTRY.values() for people in peoples.split("|"))
_MONTHS = "January February March April May June July August September October November December".split()
_WEEKDAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
_STARTS = """He She It They His Her Its Their The A An In On At This That These Those After Before During I As But And
When While Although However For From With By To Of Born King Queen Prince Princess Sir Count Duke
Romanized""".split()
NOT_A_NAME = frozenset((*_MONTHS, *_WEEKDAYS, *_STARTS))  # a single word of these is not an answer

_MONTH = "|".join(_MONTHS)
DATE = rf"(?:\d{{1,2}} (?:{_MONTH}) \d{{4}}|(?:{_MONTH}) \d{{1,2}}, \d{{4}}|(?<!\d)[12]\d{{3}}(?!\d))"
_CAPITAL = r"[A-Z\u00c0-\u00de\u0100-\u017f][\w'’-]*"
_INITIAL = r"(?:[A-Z]\. ?)"
PERSON = (
    rf"(?:{_INITIAL}+)?{_CAPITAL}(?: (?:(?:de|von|van|der|den|la|di|da|del|le|bin|al|of|the|dos|ten|af) ){{0,2}}"
    rf"(?:{_INITIAL}+ ?)?{_CAPITAL}){{0,4}}"
)
PLACE = (
    rf"(?:(?:St|Mt)\. )?{_CAPITAL}"
    rf"(?:(?: |-)(?:(?:de|la|le|upon|on|am|an|der|of|the|do|da|del|sur|en)(?: |-)){{0,2}}{_CAPITAL}){{0,3}}"
)


def without_parentheses(sentence: str) -> str:
    """Remove parentheses from a sentence, also nested ones."""
    previous = None
    while previous != sentence:
        previous, sentence = sentence, re.sub(r"\s*\([^()]*\)", "", sentence)
    return sentence


def one_of(words: Collection[str]) -> str:
    """Return a pattern that matches any of the words, the longest first."""
    return "|".join(re.escape(word) for word in sorted(words, key=lambda word: (-len(word), word)))


# By rule: question wordings and the answer sentence. For rules that PopQA asks about, its wording comes first.
_WORDINGS: dict[str, tuple[tuple[str, ...], str]] = {
    "occupation": (
        (
            "What is {name}'s occupation?",
            "What did {name} do for a living?",
            "What was {name}'s job?",
            "What was the profession of {name}?",
        ),
        "The occupation of {name} {verb} {answer}.",
    ),
    "birthplace": (
        (
            "In what city was {name} born?",
            "Where was {name} born?",
            "What is the birthplace of {name}?",
            "What is {name}'s place of birth?",
        ),
        "{name} was born in {answer}.",
    ),
    "birth country": (("Where was {name} born?", "In what country was {name} born?"), "{name} was born in {answer}."),
    "birth date": (
        ("When was {name} born?", "What is {name}'s date of birth?", "When did the life of {name} begin?"),
        "The birth date of {name} is {answer}.",
    ),
    "death date": (
        ("When did {name} die?", "What is {name}'s date of death?"),
        "The death date of {name} is {answer}.",
    ),
    "nationality": (
        ("What nationality {verb} {name}?", "What is {name}'s nationality?"),
        "The nationality of {name} {verb} {answer}.",
    ),
    "school": (
        ("Which school or university did {name} attend?", "Where did {name} study?"),
        "{name} attended {answer}.",
    ),
    "parent of a son": (
        ("Whose son {verb} {name}?", "Who {verb} {name} a son of?"),
        "{name} {verb} a son of {answer}.",
    ),
    "parent of a daughter": (
        ("Whose daughter {verb} {name}?", "Who {verb} {name} a daughter of?"),
        "{name} {verb} a daughter of {answer}.",
    ),
    "spouse": (("Who was {name} married to?", "Who was {name}'s spouse?"), "{name} was married to {answer}."),
    "director": (
        ("Who directed {name}?", "Who was the director of {name}?"),
        "{name} was directed by {answer}.",
    ),
    "writer": (("Who wrote {name}?", "Who was a writer of {name}?"), "{name} was written by {answer}."),
    "star": (("Who starred in {name}?", "Who is a star of {name}?"), "{name} stars {answer}."),
    "producer": (("Who produced {name}?", "Who was the producer of {name}?"), "{name} was produced by {answer}."),
    "composer": (
        ("Who composed the music of {name}?", "Whose music is in {name}?"),
        "The music of {name} is by {answer}.",
    ),
    "musician": (("Who recorded {name}?", "Who is the artist of {name}?"), "{name} was recorded by {answer}."),
    "release": (("When was {name} released?", "When did {name} come out?"), "{name} was released in {answer}."),
    "genre": (("What genre is {name}?", "What kind of film is {name}?"), "The genre of {name} is {answer}."),
    "country": (("In which country is {name}?", "What country is {name} in?"), "{name} is in {answer}."),
    "area": (
        ("In which county, province or district is {name}?", "What area is {name} part of?"),
        "{name} is in {answer}.",
    ),
    "population": (
        ("What was the population of {name}?", "How many people live in {name}?"),
        "The population of {name} is {answer}.",
    ),
}


def ask(rule: str, name: str, answer: str, verb: str, draw: random.Random) -> list[QAPair]:
    """Make one pair for a fact, or two for facts that PopQA asks about; `verb` is 'is' or 'was'."""
    wordings, sentence = _WORDINGS[rule]
    if rule in ("occupation", "birthplace"):
        chosen = [wordings[0], draw.choice(wordings[1:])]
    else:
        chosen = [draw.choice(wordings)]
    full = sentence.format(name=name, answer=answer, verb=verb)
    return [QAPair(wording.format(name=name, verb=verb), answer, full) for wording in chosen]
