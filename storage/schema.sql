-- The catalogue's tables and views. All statements can be repeated, which upgrades a catalogue of an older version.
CREATE TABLE IF NOT EXISTS runs (
    run_id VARCHAR PRIMARY KEY, flow VARCHAR, started TIMESTAMPTZ, finished TIMESTAMPTZ, state VARCHAR, config JSON);
CREATE TABLE IF NOT EXISTS documents (
    document_key VARCHAR, document_id VARCHAR, corpus_key VARCHAR, title VARCHAR, words INTEGER,
    PRIMARY KEY (corpus_key, document_id));
CREATE TABLE IF NOT EXISTS artifacts (
    key VARCHAR PRIMARY KEY, kind VARCHAR, document_key VARCHAR, document_id VARCHAR, bytes BIGINT, checksum VARCHAR,
    seconds DOUBLE, created TIMESTAMPTZ, inputs JSON, settings JSON, measures JSON);
CREATE TABLE IF NOT EXISTS work (
    run_id VARCHAR, stage VARCHAR, key VARCHAR, document_id VARCHAR, document_key VARCHAR, state VARCHAR,
    attempts INTEGER, seconds DOUBLE, error_type VARCHAR, error VARCHAR, updated TIMESTAMPTZ,
    PRIMARY KEY (run_id, stage, document_id));
CREATE TABLE IF NOT EXISTS requests (
    request VARCHAR, created TIMESTAMPTZ, document_id VARCHAR, product_key VARCHAR, label VARCHAR, model VARCHAR,
    finish VARCHAR, tokens_in BIGINT, tokens_out BIGINT, cost DOUBLE, seconds DOUBLE, retries INTEGER,
    PRIMARY KEY (request, created));
CREATE TABLE IF NOT EXISTS results (
    run_id VARCHAR, method VARCHAR, dataset VARCHAR, split VARCHAR, questions INTEGER, em DOUBLE, f1 DOUBLE,
    f1_low DOUBLE, f1_high DOUBLE, "precision" DOUBLE, recall DOUBLE, seconds_per_answer DOUBLE,
    bytes_per_document DOUBLE, created TIMESTAMPTZ);
CREATE TABLE IF NOT EXISTS scores (
    run_id VARCHAR, key VARCHAR, method VARCHAR, dataset VARCHAR, question_id VARCHAR, type VARCHAR, split VARCHAR,
    em DOUBLE, f1 DOUBLE, "precision" DOUBLE, recall DOUBLE, present BOOLEAN, tokens INTEGER, seconds DOUBLE,
    first_token DOUBLE);
ALTER TABLE runs ADD COLUMN IF NOT EXISTS versions JSON;
ALTER TABLE work ADD COLUMN IF NOT EXISTS units INTEGER DEFAULT 1;
ALTER TABLE runs ADD COLUMN IF NOT EXISTS measures JSON;
ALTER TABLE results ADD COLUMN IF NOT EXISTS variant VARCHAR DEFAULT '';
ALTER TABLE results ADD COLUMN IF NOT EXISTS "type" VARCHAR DEFAULT 'all';
ALTER TABLE results ADD COLUMN IF NOT EXISTS presence DOUBLE;
ALTER TABLE results ADD COLUMN IF NOT EXISTS presence_low DOUBLE;
ALTER TABLE results ADD COLUMN IF NOT EXISTS presence_high DOUBLE;
ALTER TABLE results ADD COLUMN IF NOT EXISTS tokens DOUBLE;
ALTER TABLE results ADD COLUMN IF NOT EXISTS first_token DOUBLE;
ALTER TABLE results ADD COLUMN IF NOT EXISTS retrieval_recall DOUBLE;
ALTER TABLE results ADD COLUMN IF NOT EXISTS retrievals DOUBLE;
ALTER TABLE results ADD COLUMN IF NOT EXISTS unsupported DOUBLE;
ALTER TABLE results ADD COLUMN IF NOT EXISTS memory DOUBLE;
ALTER TABLE results ADD COLUMN IF NOT EXISTS believed DOUBLE;
ALTER TABLE results ADD COLUMN IF NOT EXISTS cut DOUBLE;
CREATE OR REPLACE VIEW latest_work AS
    SELECT work.* FROM work
    JOIN (SELECT stage, arg_max(run_id, updated) AS run_id FROM work GROUP BY stage) USING (stage, run_id);
CREATE OR REPLACE VIEW failures AS
    SELECT document_id, stage, error_type, error, attempts, updated FROM latest_work WHERE state = 'failed'
    ORDER BY stage, document_id;
CREATE OR REPLACE VIEW partial AS
    SELECT document_id, stage, error AS reason, updated FROM latest_work WHERE state = 'partial'
    ORDER BY stage, document_id;
CREATE OR REPLACE VIEW progress AS
    SELECT stage, COLUMNS(* EXCLUDE (stage))::BIGINT FROM (SELECT stage,
        coalesce(sum(units) FILTER (state IN ('done', 'cached', 'partial')), 0) AS done,
        coalesce(sum(units) FILTER (state = 'partial'), 0) AS partial,
        coalesce(sum(units) FILTER (state = 'failed'), 0) AS failed,
        coalesce(sum(units) FILTER (state = 'waiting'), 0) AS waiting,
        coalesce(sum(units) FILTER (state = 'cached' OR (state = 'partial' AND attempts = 0)), 0) AS cached
    FROM latest_work GROUP BY stage);
CREATE OR REPLACE VIEW augmentations AS
    SELECT document_id, kind AS product, key, CAST(measures->>'$.wanted' AS INTEGER) AS wanted,
        CAST(measures->>'$.accepted' AS INTEGER) AS accepted, CAST(measures->>'$.dropped' AS INTEGER) AS dropped,
        CAST(measures->>'$.rounds' AS INTEGER) AS rounds, CAST(measures->>'$.requests' AS INTEGER) AS requests,
        CAST(measures->>'$.retries' AS INTEGER) AS retries, CAST(measures->>'$.tokens_in' AS BIGINT) AS tokens_in,
        CAST(measures->>'$.tokens_out' AS BIGINT) AS tokens_out, CAST(measures->>'$.cost' AS DOUBLE) AS cost,
        CAST(measures->>'$.seconds' AS DOUBLE) AS latency, measures->'$.quality' AS quality,
        measures->'$.reasons' AS reasons, seconds, created
    FROM artifacts WHERE kind IN ('rewrites', 'qa_pairs') ORDER BY document_id, product;
CREATE OR REPLACE VIEW spending AS
    SELECT document_id, count(*) AS requests, sum(retries) AS retries, sum(tokens_in) AS tokens_in,
        sum(tokens_out) AS tokens_out, sum(cost) AS cost, avg(seconds) AS latency
    FROM requests GROUP BY document_id ORDER BY document_id;
CREATE OR REPLACE VIEW document_artifacts AS
    SELECT document_id, kind, key, bytes, seconds, created FROM artifacts WHERE document_id <> ''
    ORDER BY document_id, kind, created;
