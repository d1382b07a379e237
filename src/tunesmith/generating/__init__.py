"""Make examples: questions from rules, people and a teacher, answers derived from the catalogue."""
