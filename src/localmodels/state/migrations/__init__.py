"""How the files of earlier versions become today's; alembic runs what is here, and only when a file needs it."""
