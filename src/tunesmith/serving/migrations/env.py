"""Alembic's entry: it gets a connection from the store and runs the migrations on it."""

from __future__ import annotations

from alembic import context

from tunesmith.serving.tables import Table

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Table.metadata,
    render_as_batch=True,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
