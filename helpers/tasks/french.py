"""A small generator of English sentences, each with its one French translation.

The French is a function of the English, so nothing ambiguous is said: "you" is tu, "you two" vous
deux, "they" ils; there is no "it". Adjectives with I, you, we, you two and they are masculine. A
bare plural ("cats", des chats) is an object, and no verb takes it for all cats, as to like would.
"""

import random
import re

MAX_PAIRS = 100_000  # all that `pairs` promises, and little of what the grammar can say


def table(text: str) -> dict[str, list[str]]:
    """The first word of each row, and the words after it; rows are separated by commas."""
    return {first: words for first, *words in (row.split() for row in text.split(","))}


# English, its plural if irregular, French, gender.
KINDS = {
    "person": table("""man men homme m, woman women femme f, child children enfant m, friend ami m,
        brother frère m, sister sœur f, uncle oncle m, aunt tante f, teacher professeur m"""),
    "animal": table("cat chat m, dog chien m, bird oiseau m, horse cheval m, mouse mice souris f"),
    "food": table("apple pomme f, orange orange f, egg œuf m, cake gâteau m, carrot carotte f"),
    "text": table("book livre m, letter lettre f, newspaper journal m, poster affiche f"),
    "thing": table("""house maison f, car voiture f, chair chaise f, hat chapeau m, boat bateau m,
        tree arbre m, key clé f, knife knives couteau m, plate assiette f"""),
    "place": table("""park parc m, garden jardin m, hotel hôtel m, hospital hôpital m,
        castle château m, school école f, station gare f, church churches église f"""),
}  # fmt: skip
NOUNS = {noun: words for nouns in KINDS.values() for noun, words in nouns.items()}
# English, French masculine and feminine of what stands before a French noun, and after it.
BEFORE = table("""small petit petite, large grand grande, beautiful beau belle, good bon bonne,
    old vieux vieille, new nouveau nouvelle, young jeune jeune""")
AFTER = table("""happy heureux heureuse, sad triste triste, tired fatigué fatiguée, red rouge rouge,
    clever intelligent intelligente, expensive cher chère, rich riche riche, black noir noire,
    white blanc blanche, green vert verte, grey gris grise, French français française""")
# What each kind may be called: before the noun; after it; after it, even with one before it.
QUALITIES = dict.fromkeys(KINDS, ("small large beautiful old new good", "expensive",
                                  "black white red green grey French"))  # fmt: skip
QUALITIES["person"] = "young old new", "happy sad tired rich clever", "French"
# Masculine, feminine, plural; the English plural of "a" is no word at all.
DETERMINERS = table("""the le la les, a un une des, my mon ma mes, your ton ta tes, his son sa ses,
    her son sa ses, our notre notre nos, their leur leur leurs""")
PREPOSITIONS = table("in dans, near près de, beside à côté de, at à, to à, from de")
PRONOUNS = [("I", "je", 0, "m"), ("you", "tu", 1, "m"), ("he", "il", 2, "m"),
            ("she", "elle", 2, "f"), ("we", "nous", 3, "m"), ("you two", "vous deux", 4, "m"),
            ("they", "ils", 5, "m")]  # fmt: skip
# English, its third person, the infinitive of a regular French verb or else the six forms.
VERBS = table("""be is suis es est sommes êtes sont, have has ai as a avons avez ont,
    go goes vais vas va allons allez vont, come comes viens viens vient venons venez viennent,
    see sees vois vois voit voyons voyez voient, want wants veux veux veut voulons voulez veulent,
    eat eats mange manges mange mangeons mangez mangent, read reads lis lis lit lisons lisez lisent,
    buy buys achète achètes achète achetons achetez achètent, find finds trouver, help helps aider,
    sleep sleeps dors dors dort dormons dormez dorment, sing sings chanter, draw draws dessiner,
    work works travailler, live lives habiter""")
# An adjective, the object's kind, or the preposition of a place; `HUMAN` verbs are for persons.
FOLLOWS = dict.fromkeys("see have find draw".split(), ["person", "animal", "food", "text", "thing"])
FOLLOWS |= table("""be adjective adjective adjective in at, want animal food text thing, eat food,
    buy animal food text thing, read text, help person animal, sing in near beside, work in at near,
    live in near, sleep in near beside, go to, come from""")
HUMAN = "buy read draw help work live".split()
# V: a vowel or h, here always silent. "pas de" goes first, while no des is de + les.
REWRITES = {
    r"\bpas (un|une|des) ": "pas de ", r"\b([mts])a (?=V)": r"\1on ",
    r"\b(j|l|n|d|qu)[ea] (?=V)": r"\1'", r"\b(be|nouve)au (?=V)": r"\1l ",
    r"\bvieux (?=V\w*\b(?<![sx]))": "vieil ", r"\bà le ": "au ", r"\bà les ": "aux ",
    r"\bde le ": "du ", r"\bde les ": "des ",
}  # fmt: skip
REWRITES = {re.compile(old.replace("V", "[aeiouéêôœh]")): new for old, new in REWRITES.items()}
# Not said: ton with vous, nouveau as a predicate, à with un.
AVOIDED = re.compile(r"you two .*your |new[.?]|\b(at|to) an? ", re.IGNORECASE)


def agree(word: str, gender: str, plural: bool) -> str:
    """The French form of an English adjective or noun: petites, souris, châteaux, chevaux."""
    french = NOUNS[word][-2] if word in NOUNS else (BEFORE | AFTER)[word]["mf".index(gender)]
    if not plural or french[-1] in "sx":
        return french
    return f"{french[:-1]}ux" if french.endswith("al") else french + "sx"[french.endswith("eau")]


def noun_phrase(determiner: str, adjectives: str, noun: str, plural: bool = False) -> tuple:
    """English, French, person (0 is I, 5 is they) and gender of, say, "a", "small black", "cat"."""
    (*irregular, _, gender), words = NOUNS[noun], adjectives.split()
    order = [*filter(BEFORE.get, words), noun, *filter(AFTER.get, words)]
    article = DETERMINERS[determiner][2 if plural else "mf".index(gender)]
    article = "de" if article == "des" and order[0] in BEFORE else article  # de petits chats
    french = " ".join([article, *(agree(word, gender, plural) for word in order)])
    name = noun if not plural else irregular[0] if irregular else noun + "s"
    english = " ".join([determiner, *words, name]).removeprefix("a " if plural else "")
    return english, french, 5 if plural else 2, gender


def sentence(form: str, subject: tuple, verb: str, rest: tuple) -> tuple[str, str]:
    """The English and the French text; `form` is "affirmative", "negative" or "question"."""
    (who, qui, person, _), (what, quoi, *_), (third, *forms) = subject, rest, VERBS[verb]
    helper = ("am are is are are are" if verb == "be" else "do do does do do do").split()[person]
    finite = helper if verb == "be" else third if person == 2 else verb
    regular = [forms[0][:-2] + ending for ending in "e es e ons ez ent".split()]
    fait = (forms if len(forms) == 6 else regular)[person]
    english, french = {
        "affirmative": (f"{who} {finite} {what}.", f"{qui} {fait} {quoi}."),
        "negative": (f"{who} {helper} not {verb} {what}.", f"{qui} ne {fait} pas {quoi}."),
        "question": (f"{helper} {who} {verb} {what}?", f"est-ce que {qui} {fait} {quoi} ?"),
    }[form]
    english = re.sub(r"\ba (?=[aeiou])", "an ", english.replace(" be ", " "))
    for old, new in REWRITES.items():
        french = old.sub(new, french)
    return english[0].upper() + english[1:], french[0].upper() + french[1:]


def draw_noun_phrase(rng: random.Random, kind: str, bare: bool = False) -> tuple:
    """A random `noun_phrase`, a bare plural only if `bare`."""
    before, after, both = map(str.split, QUALITIES[kind])
    words = ["", "", rng.choice(before + after + both), f"{rng.choice(before)} {rng.choice(both)}"]
    determiner = rng.choice([*DETERMINERS, "the", "the", "a", "a"])
    plural = rng.random() < 0.4 and (bare or determiner != "a")
    return noun_phrase(determiner, rng.choice(words), rng.choice([*KINDS[kind]]), plural)


def draw_sentence(rng: random.Random) -> tuple[str, str]:
    """A random `sentence`; half of the subjects are pronouns."""
    verb = rng.choice([*VERBS, "be", "be", "be"])
    kind = rng.choice([*KINDS] if verb == "be" else ["person", "animal"][: 2 - (verb in HUMAN)])
    subject, what = draw_noun_phrase(rng, kind), rng.choice(FOLLOWS[verb])
    if rng.random() < 0.5:
        kind, subject = "person", rng.choice(PRONOUNS)
    if what == "adjective":
        adjective = rng.choice(" ".join(QUALITIES[kind]).split())
        rest = adjective, agree(adjective, subject[3], subject[2] > 2)
    else:
        rest = draw_noun_phrase(rng, what if what in KINDS else "place", bare=what in KINDS)
    if what in PREPOSITIONS:
        rest = f"{what} {rest[0]}", f"{' '.join(PREPOSITIONS[what])} {rest[1]}"
    return sentence(rng.choice(["affirmative", "negative", "question"]), subject, verb, rest)


def pairs(count: int, seed: int = 0) -> list[tuple[str, str]]:
    """`count` distinct pairs of an English sentence and its French translation, in random order.
    Raises ValueError if `count` is not between 1 and `MAX_PAIRS`.
    """
    if not 1 <= count <= MAX_PAIRS:
        raise ValueError(f"the grammar gives 1 to {MAX_PAIRS} pairs, not {count}")
    rng, corpus = random.Random(seed), {}
    while len(corpus) < count:
        english, french = draw_sentence(rng)
        if not AVOIDED.search(english):
            corpus[english] = french
    return rng.sample(list(corpus.items()), count)
