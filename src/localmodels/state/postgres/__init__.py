"""The state in PostgreSQL, for several gateways; imported only where one is named, with SQLAlchemy and asyncpg."""
