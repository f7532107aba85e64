"""From class names to wire names: kebab case, plurals, and event names without their suffixes.

    kebab_case("HTTPServerFailed")  → "http-server-failed"
    plural("purchase-person")       → "purchase-people"
    wire_name("OrderPlacedV1")      → "order-placed"

The rules are few and fixed, because a topic's name is a promise: a clever library that learns a new plural in its next
release would rename topics. Where a rule is wrong for a word, state the topic as text.
"""

import re

__all__ = ["kebab_case", "plural", "wire_name"]

_WORD_START = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_VERSION = re.compile(r"(?<=.)V[0-9]+$")
_SUFFIX = re.compile(r"(?<=.)(?:IntegrationEvent|Event)$")
_ENDS_LIKE_S = re.compile(r"(?:s|x|z|ch|sh)$")
_ENDS_IN_CONSONANT_Y = re.compile(r"[^aeiou]y$")

_UNCOUNTABLE = frozenset(
    {
        "advice",
        "cash",
        "data",
        "equipment",
        "feedback",
        "fish",
        "information",
        "knowledge",
        "logistics",
        "mail",
        "media",
        "metadata",
        "money",
        "music",
        "news",
        "payroll",
        "series",
        "sheep",
        "software",
        "species",
        "staff",
        "traffic",
        "weather",
    }
)
_IRREGULAR = {
    "analysis": "analyses",
    "basis": "bases",
    "child": "children",
    "crisis": "crises",
    "criterion": "criteria",
    "foot": "feet",
    "half": "halves",
    "hero": "heroes",
    "knife": "knives",
    "leaf": "leaves",
    "life": "lives",
    "man": "men",
    "mouse": "mice",
    "person": "people",
    "potato": "potatoes",
    "quiz": "quizzes",
    "shelf": "shelves",
    "thief": "thieves",
    "tomato": "tomatoes",
    "tooth": "teeth",
    "wife": "wives",
    "wolf": "wolves",
    "woman": "women",
}


def kebab_case(class_name: str) -> str:
    """Return the words of a class name, in lower case, joined by hyphens."""
    words = _WORD_START.sub("-", class_name).replace("_", "-")
    return re.sub("-+", "-", words).strip("-").lower()


def plural(kebab: str) -> str:
    """Return the plural of the last word; the words before it stay as they are."""
    head, dash, word = kebab.rpartition("-")
    return head + dash + _plural_word(word)


def _plural_word(word: str) -> str:
    if word in _UNCOUNTABLE:
        return word
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if _ENDS_IN_CONSONANT_Y.search(word):
        return word[:-1] + "ies"
    return word + ("es" if _ENDS_LIKE_S.search(word) else "s")


def wire_name(class_name: str) -> str:
    """Return what happened, without the version and without the word "event"."""
    return kebab_case(_SUFFIX.sub("", _VERSION.sub("", class_name)))
