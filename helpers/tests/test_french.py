"""The French is right: each phenomenon by hand, then what no sentence at all may look like."""

import re

import pytest

from helpers.tasks.french import (
    MAX_PAIRS,
    PREPOSITIONS,
    PRONOUNS,
    agree,
    noun_phrase,
    pairs,
    sentence,
)

FORMS = {"+": "affirmative", "-": "negative", "?": "question"}
# Form, subject, verb, what follows (* for a plural), and the two texts.
BY_HAND = """
-;I;see;the small black cat;I do not see the small black cat.;Je ne vois pas le petit chat noir.
?;you;see;the cat;Do you see the cat?;Est-ce que tu vois le chat ?
-;I;have;a friend;I do not have a friend.;Je n'ai pas d'ami.
-;he;have;a old friend*;He does not have old friends.;Il n'a pas de vieux amis.
+;she;have;a small red apple*;She has small red apples.;Elle a de petites pommes rouges.
+;she;have;a red apple*;She has red apples.;Elle a des pommes rouges.
+;my friend*;eat;a egg;My friends eat an egg.;Mes amis mangent un œuf.
+;we;eat;the orange;We eat the orange.;Nous mangeons l'orange.
+;you two;buy;a new book*;You two buy new books.;Vous deux achetez de nouveaux livres.
+;they;buy;my poster;They buy my poster.;Ils achètent mon affiche.
-;the man;buy;a old tree;The man does not buy an old tree.;L'homme n'achète pas de vieil arbre.
?;she;draw;a beautiful bird;Does she draw a beautiful bird?;Est-ce qu'elle dessine un bel oiseau ?
?;a child;want;a knife*;Does a child want knives?;Est-ce qu'un enfant veut des couteaux ?
+;the woman*;help;your mouse;The women help your mouse.;Les femmes aident ta souris.
-;I;go;to my school;I do not go to my school.;Je ne vais pas à mon école.
?;they;go;to the church*;Do they go to the churches?;Est-ce qu'ils vont aux églises ?
+;I;go;to the new hotel;I go to the new hotel.;Je vais au nouvel hôtel.
-;he;come;from the castle*;He does not come from the castles.;Il ne vient pas des châteaux.
+;she;come;from a white house;She comes from a white house.;Elle vient d'une maison blanche.
+;I;live;near the hospital;I live near the hospital.;J'habite près de l'hôpital.
?;we;live;beside the park;Do we live beside the park?;Est-ce que nous habitons à côté du parc ?
+;your cat;sleep;in their park*;Your cat sleeps in their parks.;Ton chat dort dans leurs parcs.
+;you;find;our new chair;You find our new chair.;Tu trouves notre nouvelle chaise.
-;I;be;tired;I am not tired.;Je ne suis pas fatigué.
?;you two;be;happy;Are you two happy?;Est-ce que vous deux êtes heureux ?
-;the plate*;be;expensive;The plates are not expensive.;Les assiettes ne sont pas chères.
?;the egg;be;French;Is the egg French?;Est-ce que l'œuf est français ?
"""
BY_HAND = [row.split(";") for row in BY_HAND.strip().splitlines()]


def phrase(words):
    """The noun phrase of `words`: "a red apple*" is "red apples"."""
    determiner, *adjectives, noun = words.rstrip("*").split()
    return noun_phrase(determiner, " ".join(adjectives), noun, words.endswith("*"))


@pytest.mark.parametrize(("form", "subject", "verb", "rest", "english", "french"), BY_HAND)
def test_by_hand(form, subject, verb, rest, english, french):
    pronouns = {pronoun[0]: pronoun for pronoun in PRONOUNS}
    subject = pronouns[subject] if subject in pronouns else phrase(subject)
    first, _, place = rest.partition(" ")
    if not place:
        rest = rest, agree(rest, subject[3], subject[2] > 2)
    elif first in PREPOSITIONS:
        english_place, french_place, *_ = phrase(place)
        rest = f"{first} {english_place}", f"{' '.join(PREPOSITIONS[first])} {french_place}"
    else:
        rest = phrase(rest)
    assert sentence(FORMS[form], subject, verb, rest) == (english, french)


def test_no_sentence_is_malformed():
    wrong_french = (
        r"\b(je|le|la|ne|de|que|ma|ta|sa|beau|nouveau) V|\b(bel|nouvel|vieil|[jlnd]|qu)[ '](?!V)"
        r"|\b(à|de) les? |\bpas une? |vieil \w+[sx]\b|(sommes|êtes|sont) (pas )?\w+[^sx\W] ?[.?]|  "
        r"|elle (n')?est (pas )?(vieux|heureux|fatigué|français)\b"
    ).replace("V", "[aeiouéêôœh]")
    wrong_english = re.compile(r"\b(a [aeiou]|an [^aeiou]|be )|you two .*your |  ")
    for english, french in pairs(5_000):
        assert not wrong_english.search(english.lower()), english
        assert not re.search(wrong_french, french.lower()), french
        assert english[0].isupper() and french[0].isupper() and english[-1] == french[-1]
        assert ("?" in english) == french.startswith("Est-ce qu") == french.endswith(" ?")
        assert (" not " in english) == (" pas " in french)
        assert 3 <= len(english.split()) <= 12


def test_one_translation_per_sentence_and_one_list_per_seed():
    first, second = pairs(5_000, seed=1), pairs(5_000, seed=2)
    assert len(dict(first)) == len(dict(second)) == 5_000 and first == pairs(5_000, seed=1)
    shared = dict(first).keys() & dict(second)
    assert len(shared) > 50 and {*first} >= {p for p in second if p[0] in shared}


@pytest.mark.parametrize("count", [-1, 0, MAX_PAIRS + 1])
def test_a_count_it_cannot_give_is_refused(count):
    with pytest.raises(ValueError, match="1 to"):
        pairs(count)
