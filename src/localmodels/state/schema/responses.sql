CREATE TABLE response (
  owner TEXT NOT NULL,
  id TEXT NOT NULL,
  model TEXT NOT NULL,
  status TEXT NOT NULL,
  previous_id TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  completed_at BIGINT,
  expires_at BIGINT NOT NULL,
  size BIGINT NOT NULL,
  input BLOB NOT NULL,
  body BLOB NOT NULL,
  gateway TEXT DEFAULT '' NOT NULL,
  PRIMARY KEY (owner, id)
);

CREATE INDEX response_created_at ON response (created_at);

CREATE INDEX response_expires_at ON response (expires_at);
