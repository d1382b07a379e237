"""The command line: one short command per verb, and how people see what happens."""
