CREATE TABLE mediator_audit (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	at BIGINT NOT NULL, 
	actor VARCHAR(100) NOT NULL, 
	action VARCHAR(40) NOT NULL, 
	subject VARCHAR(200) NOT NULL, 
	reason TEXT, 
	detail TEXT
);

CREATE TABLE mediator_inbox (
	subscriber_id VARCHAR(100) NOT NULL, 
	event_id BLOB NOT NULL, 
	payload_hash BLOB NOT NULL, 
	processed_at BIGINT NOT NULL, 
	PRIMARY KEY (subscriber_id, event_id)
);

CREATE INDEX mediator_inbox_processed ON mediator_inbox (processed_at);

CREATE TABLE mediator_meta (
	name VARCHAR(40) NOT NULL, 
	value VARCHAR(200) NOT NULL, 
	PRIMARY KEY (name)
);

CREATE TABLE mediator_outbox (
	topic VARCHAR(249) NOT NULL, 
	type VARCHAR(160) NOT NULL, 
	version VARCHAR(16) NOT NULL, 
	partition_key VARCHAR(200), 
	body BLOB NOT NULL, 
	headers TEXT NOT NULL, 
	source VARCHAR(200) NOT NULL, 
	occurred_on BIGINT NOT NULL, 
	attempts SMALLINT NOT NULL, 
	correlation_id VARCHAR(200), 
	causation_id VARCHAR(200), 
	traceparent VARCHAR(64), 
	module VARCHAR(100) NOT NULL, 
	cause VARCHAR(200) NOT NULL, 
	converter VARCHAR(200), 
	domain_event_type VARCHAR(200), 
	aggregate_type VARCHAR(200), 
	aggregate_id VARCHAR(200), 
	slot SMALLINT NOT NULL, 
	position INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	event_id BLOB NOT NULL, 
	due_at BIGINT, 
	next_attempt_at BIGINT, 
	last_error TEXT
);

CREATE INDEX mediator_outbox_due ON mediator_outbox (slot, due_at) WHERE due_at IS NOT NULL;

CREATE INDEX mediator_outbox_scheduled ON mediator_outbox (event_id) WHERE slot < 0;

CREATE INDEX mediator_outbox_slot ON mediator_outbox (slot, position);

CREATE INDEX mediator_outbox_waiting ON mediator_outbox (slot, next_attempt_at) WHERE next_attempt_at IS NOT NULL;

CREATE TABLE mediator_parked (
	position INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	subscriber_id VARCHAR(100) NOT NULL, 
	event_id BLOB NOT NULL, 
	status VARCHAR(16) NOT NULL, 
	reason VARCHAR(40) NOT NULL, 
	attempts SMALLINT NOT NULL, 
	next_attempt_at BIGINT, 
	parked_at BIGINT NOT NULL, 
	died_at BIGINT, 
	topic VARCHAR(249) NOT NULL, 
	partition_key VARCHAR(200), 
	headers TEXT NOT NULL, 
	body BLOB NOT NULL, 
	correlation_id VARCHAR(200), 
	error_type VARCHAR(200), 
	error TEXT, 
	traceback TEXT, 
	fingerprint VARCHAR(32), 
	history TEXT
);

CREATE INDEX mediator_parked_due ON mediator_parked (next_attempt_at) WHERE status = 'retry';

CREATE UNIQUE INDEX mediator_parked_identity ON mediator_parked (subscriber_id, event_id);

CREATE INDEX mediator_parked_key ON mediator_parked (subscriber_id, partition_key, position);

CREATE TABLE mediator_sent (
	topic VARCHAR(249) NOT NULL, 
	type VARCHAR(160) NOT NULL, 
	version VARCHAR(16) NOT NULL, 
	partition_key VARCHAR(200), 
	body BLOB NOT NULL, 
	headers TEXT NOT NULL, 
	source VARCHAR(200) NOT NULL, 
	occurred_on BIGINT NOT NULL, 
	attempts SMALLINT NOT NULL, 
	correlation_id VARCHAR(200), 
	causation_id VARCHAR(200), 
	traceparent VARCHAR(64), 
	module VARCHAR(100) NOT NULL, 
	cause VARCHAR(200) NOT NULL, 
	converter VARCHAR(200), 
	domain_event_type VARCHAR(200), 
	aggregate_type VARCHAR(200), 
	aggregate_id VARCHAR(200), 
	event_id BLOB NOT NULL, 
	sent_at BIGINT NOT NULL, 
	PRIMARY KEY (event_id)
);

CREATE INDEX mediator_sent_at ON mediator_sent (sent_at);

INSERT INTO mediator_meta (name, value) VALUES ('schema_version', '2');

INSERT INTO mediator_meta (name, value) VALUES ('slots', '16');
