-- SPDX-License-Identifier: MIT
-- A database of version 0007 as SQLite had it, before the versions up to it became one.
BEGIN TRANSACTION;
CREATE TABLE alert (
    id VARCHAR(36) NOT NULL,
    rule VARCHAR(60) NOT NULL,
    uid VARCHAR(40) NOT NULL,
    metric VARCHAR(255) NOT NULL,
    rowid INTEGER NOT NULL,
    timestamp BIGINT NOT NULL,
    metric_value DOUBLE NOT NULL,
    anomaly_score DOUBLE NOT NULL,
    created_at DOUBLE NOT NULL,
    resolved_at DOUBLE,
    reason TEXT,
    PRIMARY KEY (id)
);
CREATE TABLE alert_delivery (
    id VARCHAR(110) NOT NULL,
    alert_id VARCHAR(36) NOT NULL,
    status VARCHAR(8) NOT NULL,
    receiver VARCHAR(60) NOT NULL,
    state VARCHAR(9) NOT NULL,
    body TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    created_at DOUBLE NOT NULL,
    next_at DOUBLE NOT NULL,
    ended_at DOUBLE,
    answer TEXT,
    PRIMARY KEY (id),
    CONSTRAINT alert_delivery_once UNIQUE (alert_id, status, receiver)
);
CREATE TABLE alert_state (
    rule VARCHAR(60) NOT NULL,
    uid VARCHAR(40) NOT NULL,
    phase VARCHAR(8) NOT NULL,
    open BOOLEAN NOT NULL,
    rowid INTEGER NOT NULL,
    hits TEXT NOT NULL,
    alert_id VARCHAR(36) NOT NULL,
    fired_at BIGINT,
    changed_at DOUBLE NOT NULL,
    PRIMARY KEY (rule, uid)
);
CREATE TABLE anomaly (
    uid VARCHAR(40) NOT NULL,
    rowid INTEGER NOT NULL,
    timestamp DATETIME NOT NULL,
    metric_value DOUBLE NOT NULL,
    anomaly_score DOUBLE NOT NULL,
    PRIMARY KEY (uid, rowid),
    FOREIGN KEY(uid) REFERENCES metric (uid) ON DELETE CASCADE
);
CREATE TABLE anomaly_state (
    uid VARCHAR(40) NOT NULL,
    generation INTEGER NOT NULL,
    rowid INTEGER NOT NULL,
    state BLOB NOT NULL,
    PRIMARY KEY (uid),
    FOREIGN KEY(uid) REFERENCES metric (uid) ON DELETE CASCADE
);
CREATE TABLE htmengine_version (
    version_num VARCHAR(32) NOT NULL,
    CONSTRAINT htmengine_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "htmengine_version" VALUES('0007');
CREATE TABLE instance_status_history (
    server VARCHAR(100) NOT NULL,
    timestamp DATETIME NOT NULL,
    status VARCHAR(32) DEFAULT 'active' NOT NULL,
    PRIMARY KEY (server, timestamp)
);
CREATE TABLE ledger_total (
    name VARCHAR(40) NOT NULL,
    count BIGINT NOT NULL,
    PRIMARY KEY (name)
);
CREATE TABLE lock (
    name VARCHAR(40) NOT NULL,
    PRIMARY KEY (name)
);
CREATE TABLE metric (
    uid VARCHAR(40) NOT NULL,
    datasource VARCHAR(100) NOT NULL,
    name VARCHAR(255) NOT NULL,
    description VARCHAR(200),
    server VARCHAR(255),
    location VARCHAR(200),
    parameters TEXT,
    status INTEGER DEFAULT '0' NOT NULL,
    message TEXT,
    collector_error TEXT,
    last_timestamp DATETIME,
    poll_interval INTEGER,
    tag_name VARCHAR(200),
    model_params TEXT,
    last_rowid INTEGER DEFAULT '0' NOT NULL,
    PRIMARY KEY (uid),
    CONSTRAINT metric_name UNIQUE (name, datasource)
);
CREATE TABLE metric_data (
    uid VARCHAR(40) NOT NULL,
    rowid INTEGER NOT NULL,
    timestamp DATETIME NOT NULL,
    metric_value DOUBLE NOT NULL,
    raw_anomaly_score DOUBLE,
    anomaly_score DOUBLE,
    display_value DOUBLE,
    multi_step_best_predictions TEXT,
    PRIMARY KEY (uid, rowid),
    FOREIGN KEY(uid) REFERENCES metric (uid) ON DELETE CASCADE
);
CREATE TABLE metric_score (
    uid VARCHAR(40) NOT NULL,
    generation INTEGER NOT NULL,
    rowid INTEGER NOT NULL,
    scored INTEGER NOT NULL,
    timestamp DATETIME,
    metric_value DOUBLE,
    raw_anomaly_score DOUBLE,
    anomaly_score DOUBLE,
    PRIMARY KEY (uid),
    FOREIGN KEY(uid) REFERENCES metric (uid) ON DELETE CASCADE
);
CREATE TABLE model_snapshot (
    uid VARCHAR(40) NOT NULL,
    version INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    created_at BIGINT NOT NULL,
    params TEXT NOT NULL,
    rowid INTEGER,
    scored INTEGER,
    model BLOB,
    likelihood BLOB,
    PRIMARY KEY (uid, version),
    FOREIGN KEY(uid) REFERENCES metric (uid) ON DELETE CASCADE
);
CREATE TABLE outbox (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    queue VARCHAR(255) NOT NULL,
    body BLOB NOT NULL
);
CREATE TABLE processed_batch (
    batch_id VARCHAR(64) NOT NULL,
    processed_at BIGINT NOT NULL,
    PRIMARY KEY (batch_id)
);
CREATE TABLE reject_count (
    uid VARCHAR(40) NOT NULL,
    reason VARCHAR(40) NOT NULL,
    count BIGINT NOT NULL,
    last_at BIGINT,
    PRIMARY KEY (uid, reason)
);
CREATE TABLE result_log (
    number INTEGER NOT NULL,
    spans BLOB NOT NULL,
    PRIMARY KEY (number)
);
CREATE TABLE trouble (
    source VARCHAR(200) NOT NULL,
    number INTEGER NOT NULL,
    message TEXT NOT NULL,
    since BIGINT NOT NULL,
    PRIMARY KEY (source, number)
);
CREATE INDEX metric_status ON metric (status);
CREATE INDEX ix_processed_batch_processed_at ON processed_batch (processed_at);
CREATE INDEX anomaly_timestamp ON anomaly (timestamp);
CREATE INDEX ix_alert_state_open ON alert_state (open);
CREATE INDEX ix_alert_created_at ON alert (created_at);
CREATE INDEX alert_delivery_due ON alert_delivery (receiver, state, next_at);
COMMIT;
