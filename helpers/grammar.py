"""A small grammar of English: an endless supply of correct sentences of known length.

`RULES` says how a phrase is put together, `LEXICON` which words belong to a word class. Number
agrees by construction: a singular noun phrase (`np_sg`) only ever meets a singular verb phrase.
"""

import random

# One alternative of a symbol is drawn, all with equal chance; one that is named twice is likelier.
RULES = {
    "sentence": ["clause", "clause", "clause conjunction clause", "command"],
    "clause": ["np_sg vp_sg", "np_pl vp_pl"],
    "command": ["go adverb", "go place", "go adverb place", "see object", "see object adverb"],
    "np_sg": ["pronoun_sg", "simple_sg", "simple_sg", "simple_sg place"],
    "np_pl": ["pronoun_pl", "simple_pl", "simple_pl", "simple_pl place"],
    "simple_sg": ["the_sg noun_sg", "the_sg adjective noun_sg",
                  "the_sg adjective adjective noun_sg"],
    "simple_pl": ["noun_pl", "adjective noun_pl", "the_pl noun_pl", "the_pl adjective noun_pl"],
    "object": ["pronoun_object", "simple_sg", "simple_pl", "simple_sg place", "simple_pl place"],
    "place": ["preposition simple_sg", "preposition simple_pl"],
    "vp_sg": ["goes", "goes adverb", "goes place", "sees object", "sees object adverb",
              "is place", "seems adjective", "vp_past"],
    "vp_pl": ["go", "go adverb", "go place", "see object", "see object adverb",
              "are place", "seem adjective", "vp_past"],
    "vp_past": ["went", "went adverb", "went place", "saw object", "saw object adverb"],
}  # fmt: skip

LEXICON = {
    "the_sg": "the a this that my your our every another one",
    "the_pl": "the these those my your our some many few two three all",
    "pronoun_sg": "he she it everyone nobody someone",
    "pronoun_pl": "they we you",
    "pronoun_object": "him her it them us me you everyone nobody someone",
    "noun_sg": """apple artist baby baker bird boat book bridge brother cat captain chair child city
        cloud cook cow daughter dentist doctor dog dragon engine farmer father fish flower forest
        friend garden girl guest horse house island judge king lake lamp letter lion mother mountain
        mouse neighbour nurse owl painter pilot poet queen river road robot sailor ship singer
        sister soldier song star stone story student teacher tiger tower tree village window wizard
        wolf woman""",
    "noun_pl": """apples artists babies bakers birds boats books bridges brothers cats captains
        chairs children cities clouds cooks cows daughters dentists doctors dogs dragons engines
        farmers fathers fish flowers forests friends gardens girls guests horses houses islands
        judges kings lakes lamps letters lions mothers mountains mice neighbours nurses owls
        painters pilots poets queens rivers roads robots sailors ships singers sisters soldiers
        songs stars stones stories students teachers tigers towers trees villages windows wizards
        wolves women""",
    "adjective": """angry big black blue brave bright busy calm careful cheerful clever cold curious
        dark elegant empty famous fast friendly funny gentle golden green happy heavy hungry large
        lazy little lonely loud lucky narrow new noisy old patient polite proud quiet red rich sad
        sharp shy silent silver slow small soft strange strong sweet tall tired tiny ugly warm white
        wild wise young""",
    "adverb": """again alone badly calmly carefully easily gently gladly happily here loudly now
        often outside politely proudly quickly quietly sadly silently slowly softly suddenly there
        together""",
    "preposition": """above across against around before behind beside inside near past through
        toward under with""",
    "conjunction": "although and because but or until when while",
    "go": "arrive cry dance fall laugh listen rest run shout sing sleep smile stand swim wait walk",
    "goes": """arrives cries dances falls laughs listens rests runs shouts sings sleeps smiles
        stands swims waits walks""",
    "went": """arrived cried danced fell laughed listened rested ran shouted sang slept smiled stood
        swam waited walked""",
    "see": """admire answer build call carry draw feed find follow help hide like meet paint push
        remember see sell thank visit wash watch""",
    "sees": """admires answers builds calls carries draws feeds finds follows helps hides likes
        meets paints pushes remembers sees sells thanks visits washes watches""",
    "saw": """admired answered built called carried drew fed found followed helped hid liked met
        painted pushed remembered saw sold thanked visited washed watched""",
    "is": "is was",
    "are": "are were",
    "seems": "is was seems seemed becomes became",
    "seem": "are were seem seemed become became",
}
LEXICON = {word_class: words.split() for word_class, words in LEXICON.items()}
WORDS = sorted({word for words in LEXICON.values() for word in words} | {"an"})


def expand(symbol: str, rng: random.Random) -> list[str]:
    """The words of one random phrase of the kind `symbol`, a key of `RULES` or of `LEXICON`."""
    if symbol in LEXICON:
        return [rng.choice(LEXICON[symbol])]
    parts = rng.choice(RULES[symbol]).split()
    return [word for part in parts for word in expand(part, rng)]


def random_sentence(rng: random.Random) -> tuple[str, ...]:
    """One grammatical sentence as a tuple of words; "a" has become "an" before a vowel."""
    words = expand("sentence", rng)
    for i, following in enumerate(words[1:]):
        if words[i] == "a" and following[0] in "aeiou":
            words[i] = "an"
    return tuple(words)


def sentences(per_length: int, max_words: int = 12, seed: int = 1) -> list[tuple[str, ...]]:
    """Distinct sentences of 1 to `max_words` words, in random order: up to `per_length` of each
    length, fewer of one or two words, of which there are few. Raises ValueError if `per_length` is
    less than 1 or `max_words` not between 3 and 25, beyond which the grammar hardly ever goes.
    """
    if per_length < 1:
        raise ValueError(f"per_length must be at least 1, not {per_length}")
    if not 3 <= max_words <= 25:
        raise ValueError(f"the grammar makes sentences of 3 to 25 words, not of {max_words}")
    rng = random.Random(seed)
    # Dictionaries serve as sets that remember the order of insertion.
    by_length = {length: {} for length in range(1, max_words + 1)}
    by_length[1] = {(word,): None for word in rng.sample(WORDS, min(per_length, len(WORDS)))}
    while len(by_length[max_words]) < per_length:  # the longest come last, being the rarest
        sentence = random_sentence(rng)
        of_this_length = by_length.get(len(sentence), {})
        if len(of_this_length) < per_length:
            of_this_length[sentence] = None
    pool = [sentence for group in by_length.values() for sentence in group]
    rng.shuffle(pool)
    return pool
