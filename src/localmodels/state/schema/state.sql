CREATE TABLE "key" (
  id TEXT NOT NULL,
  name TEXT NOT NULL,
  hash BLOB NOT NULL,
  shown TEXT NOT NULL,
  scopes TEXT NOT NULL,
  models TEXT NOT NULL,
  requests_per_minute BIGINT,
  tokens_per_minute BIGINT,
  token_quota BIGINT,
  quota_period TEXT NOT NULL,
  weight INTEGER NOT NULL,
  created_at BIGINT NOT NULL,
  created_by TEXT NOT NULL,
  expires_at BIGINT,
  revoked_at BIGINT,
  PRIMARY KEY (id),
  UNIQUE (hash)
);

CREATE UNIQUE INDEX key_name ON "key" (name) WHERE revoked_at IS NULL;

CREATE TABLE meta (
  name TEXT NOT NULL,
  value BIGINT NOT NULL,
  PRIMARY KEY (name)
);

CREATE TABLE server (
  id TEXT NOT NULL,
  name TEXT NOT NULL,
  url TEXT NOT NULL,
  kind TEXT NOT NULL,
  api_version TEXT NOT NULL,
  description TEXT NOT NULL,
  capabilities TEXT NOT NULL,
  max_concurrent INTEGER NOT NULL,
  max_queue INTEGER NOT NULL,
  priority BIGINT NOT NULL,
  weight FLOAT NOT NULL,
  is_default BOOLEAN NOT NULL,
  is_active BOOLEAN NOT NULL,
  first_byte FLOAT NOT NULL,
  idle FLOAT NOT NULL,
  reach TEXT NOT NULL,
  gateway TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL,
  PRIMARY KEY (id)
);

CREATE UNIQUE INDEX server_default ON server (is_default) WHERE is_default;

CREATE UNIQUE INDEX server_name ON server (gateway, name);

CREATE UNIQUE INDEX server_url ON server (gateway, url);

CREATE TABLE server_key (
  server_id TEXT NOT NULL,
  "key" TEXT NOT NULL,
  PRIMARY KEY (server_id),
  FOREIGN KEY(server_id) REFERENCES server (id) ON DELETE CASCADE
);

CREATE TABLE server_model (
  id TEXT NOT NULL,
  server_id TEXT NOT NULL,
  model TEXT NOT NULL,
  name TEXT NOT NULL,
  capabilities TEXT NOT NULL,
  priority BIGINT NOT NULL,
  is_active BOOLEAN NOT NULL,
  present BOOLEAN NOT NULL,
  digest TEXT NOT NULL,
  size BIGINT NOT NULL,
  told TEXT NOT NULL,
  context_length BIGINT NOT NULL,
  modified_at TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL,
  PRIMARY KEY (id),
  FOREIGN KEY(server_id) REFERENCES server (id) ON DELETE CASCADE
);

CREATE UNIQUE INDEX server_model_name ON server_model (server_id, model);

CREATE TABLE task (
  id TEXT NOT NULL,
  kind TEXT NOT NULL,
  subject TEXT NOT NULL,
  owner TEXT NOT NULL,
  request BLOB NOT NULL,
  state TEXT NOT NULL,
  reached TEXT NOT NULL,
  action TEXT NOT NULL,
  ratio FLOAT NOT NULL,
  failure BLOB,
  retry_of TEXT NOT NULL,
  origin TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  started_at BIGINT NOT NULL,
  ended_at BIGINT NOT NULL,
  gateway TEXT DEFAULT '' NOT NULL,
  PRIMARY KEY (id)
);

CREATE INDEX task_created_at ON task (created_at);

CREATE TABLE task_event (
  task_id TEXT NOT NULL,
  number BIGINT NOT NULL,
  action TEXT NOT NULL,
  ratio FLOAT NOT NULL,
  details BLOB NOT NULL,
  status INTEGER NOT NULL,
  PRIMARY KEY (task_id, number),
  FOREIGN KEY(task_id) REFERENCES task (id) ON DELETE CASCADE
);

CREATE TABLE usage (
  key_id TEXT NOT NULL,
  model TEXT NOT NULL,
  server TEXT NOT NULL,
  hour INTEGER NOT NULL,
  requests BIGINT NOT NULL,
  failed BIGINT NOT NULL,
  prompt_tokens BIGINT NOT NULL,
  cached_tokens BIGINT NOT NULL,
  completion_tokens BIGINT NOT NULL,
  estimated BIGINT NOT NULL,
  PRIMARY KEY (key_id, model, server, hour)
);

CREATE INDEX usage_hour ON usage (hour);
