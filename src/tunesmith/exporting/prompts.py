"""What is replayed where a project has no questions of its own, and the texts on which tokenizers differ."""

from __future__ import annotations

from typing import Final

QUESTIONS: Final = (
    "What is a graph?",
    "Name three colours.",
    "How do I sort a list in Python?",
    "Write a haiku about rain.",
    "What is 17 times 23?",
    "Translate 'good morning' into French.",
    "Who wrote Hamlet?",
    "Explain recursion in one sentence.",
    "What is the capital of Australia?",
    "List the planets from the sun outwards.",
    "How many legs do two spiders have?",
    "What does HTTP status 404 mean?",
    "Give me a synonym of 'quick'.",
    "Write an SQL query that counts the rows of the table orders.",
    "Why is the sky blue?",
    "What is the difference between a list and a tuple?",
    "Summarise: The cat sat on the mat, and then it slept.",
    "Is 91 a prime number?",
    "Convert 68 degrees Fahrenheit to Celsius.",
    "Write a regular expression that matches a date such as 2024-05-17.",
    "What is photosynthesis?",
    "Reply with the single word: yes.",
    "How do I undo the last commit in git?",
    "Which is heavier, a kilogram of iron or of feathers?",
    "Name a fruit that begins with the letter k.",
    "What is the plural of 'ox'?",
    "Write a function that reverses a string.",
    "When did people first land on the moon?",
    "Complete: To be, or not to be,",
    "What is the boiling point of water at sea level?",
    "Spell 'necessary' backwards.",
    "Thank you, that is all.",
)

TEXTS: Final = (
    "The quick brown fox jumps over the lazy dog.",
    "In 2024, 1234567 people paid 3.14159 or 10,000.00 each.",
    "don't we'll they'RE I'd y'all's 'tis",
    "  two spaces,\ttabs\t\tand   more  \n\n\nlines\r\nof text \n  ",
    "def f(x: int) -> str:\n    return f'{x:>08}' if x != 0 else \"\"\n",
    "Grüße aus Köln, ça va? Ελληνικά, русский, हिन्दी, ไทย, 中文字符, 日本語, 한국어",
    "🚀🙂👩‍👩‍👧 ½ ² ³ ①②③ ٣٤٥",
    "https://example.org/a?b=c&d=%20#e <tag attr='v'/> [x](y) **bold** `code` ```",
    "snake_case camelCase SCREAMING_CASE v1.2.3-rc4+build.5 C++17 x86_64",
    "!!!???...--- === ~~~ $$$ @@@ ^^^ ((())) [[]] {{}} \\\\ ///",
)
