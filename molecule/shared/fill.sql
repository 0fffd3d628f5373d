-- Fills a database of Prefect with as many rows as a site has after weeks of work, by PostgreSQL alone.
--
--   psql -v part=runs -v flow_runs=300000 -v task_runs=1000000 -v logs=5000000 -v days=28 -f fill.sql     (as superuser)
--   psql -v part=events -v flow_runs=300000 -v task_runs=1000000 -v events=5000000 -v event_days=6 -f fill.sql
--
-- The two parts touch different tables and may run side by side. Identifiers are digests of their numbers, so that rows refer to each other
-- without a lookup. The rows have the shape that Prefect 3.7 to 3.9 writes. Events lie within `event_days`: Prefect deletes older ones
-- after 7 days by default.
\set ON_ERROR_STOP on
\set QUIET on
SET client_min_messages = warning;
SET synchronous_commit = off;
SET maintenance_work_mem = '512MB';
-- The rows are consistent by construction; checking each reference takes longer than writing it.
SET session_replication_role = replica;
SELECT :'part' = 'runs' AS runs, :'part' = 'events' AS events_part \gset

CREATE OR REPLACE FUNCTION pg_temp.key(kind text, number bigint) RETURNS uuid LANGUAGE sql IMMUTABLE
    RETURN md5(kind || number::text)::uuid;

-- Indexes are dropped and built again afterwards, which is several times as quick as keeping them up to date.
\if :runs
CREATE TEMP TABLE filled AS SELECT unnest(ARRAY['flow_run', 'flow_run_state', 'task_run', 'task_run_state', 'log']) AS name;
\else
CREATE TEMP TABLE filled AS SELECT unnest(ARRAY['events', 'event_resources']) AS name;
\endif
CREATE TEMP TABLE indexes AS
SELECT i.indexrelid::regclass::text AS name, pg_get_indexdef(i.indexrelid) AS definition
FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid JOIN filled f ON f.name = c.relname
WHERE c.relnamespace = 'public'::regnamespace AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = i.indexrelid);
SELECT format('DROP INDEX %s', name) FROM indexes \gexec

\if :runs
-- Flows and deployments -------------------------------------------------------------------------------------------------------------------
INSERT INTO flow (id, name, tags, labels)
SELECT pg_temp.key('flow', f), 'flow-' || f, jsonb_build_array('team-' || f % 7), '{}' FROM generate_series(0, 199) f ON CONFLICT DO NOTHING;

INSERT INTO deployment (id, name, flow_id, tags, parameters, path, entrypoint, status, parameter_openapi_schema, labels)
SELECT pg_temp.key('deployment', d), 'deployment-' || d, pg_temp.key('flow', d % 200), jsonb_build_array('team-' || d % 7), '{}', '/srv/flows',
    'flow_' || d % 200 || '.py:main', 'READY', '{"type": "object", "properties": {}}', '{}'
FROM generate_series(0, 399) d ON CONFLICT DO NOTHING;

-- Flow runs: evenly over the days, four states each, 8 of 100 not completed -----------------------------------------------------------------
INSERT INTO flow_run (id, created, updated, name, state_type, run_count, expected_start_time, start_time, end_time, total_run_time, flow_version,
    parameters, context, empirical_policy, tags, auto_scheduled, flow_id, deployment_id, state_id, state_name, state_timestamp, created_by,
    labels)
SELECT pg_temp.key('flow_run', r), begun - interval '1 minute', begun + taken, 'brisk-otter-' || r, kind, 1, begun, begun, begun + taken, taken,
    md5('version' || r % 50), jsonb_build_object('day', r % 28, 'source', 's3://bucket/object-' || r, 'limit', 1000), '{}',
    '{"retries": 0, "retry_delay": 0, "max_retries": 0, "retry_delay_seconds": 0.0}', jsonb_build_array('team-' || r % 7, 'production'), true,
    pg_temp.key('flow', r % 200), pg_temp.key('deployment', r % 400), pg_temp.key('flow_run_state3-', r), initcap(kind::text), begun + taken,
    jsonb_build_object('id', pg_temp.key('deployment', r % 400), 'type', 'DEPLOYMENT', 'display_value', 'deployment-' || r % 400),
    jsonb_build_object('prefect.flow.id', pg_temp.key('flow', r % 200))
FROM (
    SELECT r, now() - (:days * interval '1 day') * (1 - r::float / :flow_runs) - interval '10 minutes' AS begun,
        interval '1 second' * (5 + r % 300) AS taken,
        (CASE WHEN r % 100 < 6 THEN 'FAILED' WHEN r % 100 = 6 THEN 'CRASHED' WHEN r % 100 = 7 THEN 'CANCELLED' ELSE 'COMPLETED' END)::state_type AS kind
    FROM generate_series(1, :flow_runs) r
) runs;

INSERT INTO flow_run_state (id, created, updated, type, "timestamp", name, message, state_details, data, flow_run_id)
SELECT pg_temp.key('flow_run_state' || s || '-', r), at, at, kind, at, initcap(kind::text), CASE WHEN s = 3 AND kind = 'FAILED' THEN
        'Flow run encountered an exception: ValueError: row ' || r || ' of the source has no key' END,
    jsonb_build_object('flow_run_id', pg_temp.key('flow_run', r), 'pause_reschedule', false, 'untrackable_result', false), NULL,
    pg_temp.key('flow_run', r)
FROM (
    SELECT r, s, now() - (:days * interval '1 day') * (1 - r::float / :flow_runs) - interval '10 minutes'
            + CASE s WHEN 0 THEN interval '-60 s' WHEN 1 THEN interval '-2 s' WHEN 2 THEN interval '0' ELSE interval '1 s' * (5 + r % 300) END AS at,
        (CASE s WHEN 0 THEN 'SCHEDULED' WHEN 1 THEN 'PENDING' WHEN 2 THEN 'RUNNING' ELSE
            CASE WHEN r % 100 < 6 THEN 'FAILED' WHEN r % 100 = 6 THEN 'CRASHED' WHEN r % 100 = 7 THEN 'CANCELLED' ELSE 'COMPLETED' END
        END)::state_type AS kind
    FROM generate_series(1, :flow_runs) r, generate_series(0, 3) s
) states;

-- Task runs: those of a flow run follow each other, three states each -----------------------------------------------------------------------
INSERT INTO task_run (id, created, updated, name, state_type, run_count, expected_start_time, start_time, end_time, total_run_time, task_key,
    dynamic_key, empirical_policy, task_inputs, tags, flow_run_id, state_id, state_name, state_timestamp, flow_run_run_count, labels)
SELECT pg_temp.key('task_run', t), begun, begun + interval '3 s', 'load-rows-' || t % 997, 'COMPLETED', 1, begun, begun, begun + interval '3 s',
    interval '3 s', 'load_rows-' || md5('task' || t % 40), t::text,
    '{"retries": 3, "retry_delay": 10, "max_retries": 0, "retry_jitter_factor": null, "retry_delay_seconds": 0.0}',
    '{"rows": [], "source": [{"input_type": "parameter", "name": "source"}]}', '[]', pg_temp.key('flow_run', 1 + t % :flow_runs),
    pg_temp.key('task_run_state2-', t), 'Completed', begun + interval '3 s', 1, '{}'
FROM (
    SELECT t, now() - (:days * interval '1 day') * (1 - (1 + t % :flow_runs)::float / :flow_runs) - interval '10 minutes'
        + interval '1 s' * (t / :flow_runs) AS begun
    FROM generate_series(0, :task_runs - 1) t
) tasks;

INSERT INTO task_run_state (id, created, updated, type, "timestamp", name, message, state_details, data, task_run_id)
SELECT pg_temp.key('task_run_state' || s || '-', t), at, at, kind, at, initcap(kind::text), '',
    jsonb_build_object('flow_run_id', pg_temp.key('flow_run', 1 + t % :flow_runs), 'task_run_id', pg_temp.key('task_run', t),
        'pause_reschedule', false, 'untrackable_result', false), NULL, pg_temp.key('task_run', t)
FROM (
    SELECT t, s, now() - (:days * interval '1 day') * (1 - (1 + t % :flow_runs)::float / :flow_runs) - interval '10 minutes'
            + interval '1 s' * (t / :flow_runs) + interval '1 s' * (CASE s WHEN 0 THEN -0.1 WHEN 1 THEN 0 ELSE 3 END) AS at,
        (CASE s WHEN 0 THEN 'PENDING' WHEN 1 THEN 'RUNNING' ELSE 'COMPLETED' END)::state_type AS kind
    FROM generate_series(0, :task_runs - 1) t, generate_series(0, 2) s
) states;

-- Logs --------------------------------------------------------------------------------------------------------------------------------------
INSERT INTO log (id, created, updated, name, level, flow_run_id, task_run_id, message, "timestamp")
SELECT pg_temp.key('log', l), at, at, CASE WHEN l % 3 = 0 THEN 'prefect.task_runs' ELSE 'prefect.flow_runs' END,
    CASE WHEN l % 50 = 0 THEN 40 WHEN l % 10 = 0 THEN 30 ELSE 20 END, pg_temp.key('flow_run', 1 + l % :flow_runs),
    CASE WHEN l % 3 = 0 AND :task_runs > 0 THEN pg_temp.key('task_run', l % :task_runs) END,
    'Read ' || l % 10000 || ' rows of s3://bucket/object-' || l || ' in ' || (l % 977) / 100.0 || ' s; checksum ' || md5(l::text), at
FROM (
    SELECT l, now() - (:days * interval '1 day') * (1 - (1 + l % :flow_runs)::float / :flow_runs) - interval '10 minutes'
        + interval '1 s' * (l / :flow_runs) AS at
    FROM generate_series(1, :logs) l
) lines;
\endif

\if :events_part
-- Events: of flow runs (2 of 10), of task runs, whose payload is the whole of the run (6 of 10), and of users (2 of 10) -----------------------
INSERT INTO events (id, occurred, received, recorded, event, resource_id, resource, related_resource_ids, related, payload, follows)
SELECT pg_temp.key('event', e), at, at, at, event, resource_id, resource || jsonb_build_object('prefect.resource.id', resource_id),
    jsonb_build_array(flow, deployment, 'prefect.tag.production'),
    jsonb_build_array(
        jsonb_build_object('prefect.resource.id', flow, 'prefect.resource.role', 'flow', 'prefect.resource.name', 'flow-' || e % 200),
        jsonb_build_object('prefect.resource.id', deployment, 'prefect.resource.role', 'deployment', 'prefect.resource.name', 'deployment-' || e % 400),
        jsonb_build_object('prefect.resource.id', 'prefect.tag.production', 'prefect.resource.role', 'tag')),
    CASE WHEN kind BETWEEN 2 AND 7 THEN jsonb_build_object(
        'intended', jsonb_build_object('from', 'PENDING', 'to', 'RUNNING'),
        'initial_state', jsonb_build_object('type', 'PENDING', 'name', 'Pending', 'message', '', 'state_details', '{}'::jsonb),
        'validated_state', jsonb_build_object('type', 'RUNNING', 'name', 'Running', 'message', '', 'state_details', '{}'::jsonb, 'data', null),
        'task_run', jsonb_build_object('name', 'load-rows-' || e % 997, 'task_key', 'load_rows-' || md5('task' || e % 40), 'dynamic_key', e::text,
            'empirical_policy', '{"retries": 3, "max_retries": 0, "retry_delay": 10, "retry_delay_seconds": 0.0}'::jsonb, 'tags', '[]'::jsonb,
            'task_inputs', '{"rows": [], "source": [{"input_type": "parameter", "name": "source"}]}'::jsonb, 'run_count', 1,
            'flow_run_run_count', 1, 'start_time', at, 'expected_start_time', at, 'total_run_time', 0.0, 'estimated_run_time', 0.0))
    ELSE jsonb_build_object('intended', jsonb_build_object('from', 'PENDING', 'to', 'RUNNING'), 'validated_state',
        jsonb_build_object('type', 'RUNNING', 'name', 'Running', 'message', md5(e::text)))
    END, NULL
FROM (
    SELECT e, kind, at, 'prefect.flow.' || pg_temp.key('flow', e % 200) AS flow, 'prefect.deployment.' || pg_temp.key('deployment', e % 400) AS deployment,
        CASE WHEN kind < 2 THEN 'prefect.flow-run.' || (ARRAY['Scheduled', 'Pending', 'Running', 'Completed'])[1 + e % 4]
            WHEN kind < 8 THEN 'prefect.task-run.' || (ARRAY['Pending', 'Running', 'Completed'])[1 + e % 3] ELSE 'site.rows.loaded' END AS event,
        CASE WHEN kind < 2 THEN 'prefect.flow-run.' || pg_temp.key('flow_run', 1 + e % :flow_runs)
            WHEN kind < 8 THEN 'prefect.task-run.' || pg_temp.key('task_run', e % :task_runs) ELSE 'site.table.' || e % 500 END AS resource_id,
        jsonb_build_object('prefect.resource.name', 'name-' || e % 997, 'prefect.state-message', '', 'prefect.state-type', 'RUNNING',
            'prefect.state-name', 'Running', 'prefect.state-timestamp', at, 'prefect.orchestration', 'server') AS resource
    FROM (
        SELECT e, e % 10 AS kind, now() - (:event_days * interval '1 day') * (1 - e::float / :events) - interval '1 minute' AS at
        FROM generate_series(1, :events) e
    ) numbers
) described;

INSERT INTO event_resources (occurred, resource_id, resource_role, resource, event_id)
SELECT occurred, resource_id, '', resource::json, id FROM events
UNION ALL
SELECT occurred, related ->> 'prefect.resource.id', related ->> 'prefect.resource.role', related::json, id
FROM (SELECT occurred, id, events.related -> (CASE WHEN hashtext(id::text) % 2 = 0 THEN 0 ELSE 1 END) AS related FROM events) first_related
WHERE related IS NOT NULL;
\endif

SELECT definition FROM indexes \gexec
-- Several processes would share more memory than a container's /dev/shm has.
SELECT format('VACUUM (ANALYZE, PARALLEL 0) %I', name) FROM filled \gexec
