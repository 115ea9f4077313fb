-- Copyright: Contributors to the rhpds.litemaas project
-- GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
-- SPDX-License-Identifier: GPL-3.0-or-later
--
-- LiteMaaS 0.4.0's seventeen tables, for tests: in a database of their own, or beside LiteLLM's tables.
-- May be applied again and again, as the backend applies its own at every start.

SET client_min_messages = warning;

-- gen_random_uuid() is built in since PostgreSQL 13, so a server without contrib modules will do.
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_available_extensions WHERE name = 'pgcrypto') THEN
        CREATE EXTENSION IF NOT EXISTS pgcrypto;
    END IF;
END
$$;

CREATE TABLE IF NOT EXISTS users (
    id              uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    username        varchar(255) NOT NULL UNIQUE,
    email           varchar(255) NOT NULL UNIQUE,
    full_name       varchar(255),
    oauth_provider  varchar(50)  NOT NULL,
    oauth_id        varchar(255) NOT NULL,
    roles           text[] DEFAULT ARRAY['user'],
    is_active       boolean DEFAULT true,
    max_budget      numeric(10, 2) DEFAULT 100,
    tpm_limit       integer DEFAULT 10000,
    rpm_limit       integer DEFAULT 60,
    budget_duration varchar(50),
    sync_status     varchar(20) DEFAULT 'pending' CHECK (sync_status IN ('pending', 'synced', 'error')),
    last_login_at   timestamptz,
    created_at      timestamptz DEFAULT now(),
    updated_at      timestamptz DEFAULT now(),
    UNIQUE (oauth_provider, oauth_id)
);

CREATE TABLE IF NOT EXISTS teams (
    id               uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    name             varchar(255) NOT NULL,
    alias            varchar(255),
    description      text,
    lite_llm_team_id varchar(255),
    max_budget       numeric(10, 2),
    current_spend    numeric(10, 2) DEFAULT 0,
    budget_duration  varchar(50),
    tpm_limit        integer,
    rpm_limit        integer,
    allowed_models   text[],
    metadata         jsonb DEFAULT '{}',
    is_active        boolean DEFAULT true,
    created_by       uuid REFERENCES users (id),
    sync_status      varchar(20) DEFAULT 'pending' CHECK (sync_status IN ('pending', 'synced', 'error')),
    last_sync_at     timestamptz,
    sync_error       text,
    created_at       timestamptz DEFAULT now(),
    updated_at       timestamptz DEFAULT now()
);

CREATE TABLE IF NOT EXISTS team_members (
    team_id   uuid NOT NULL REFERENCES teams (id) ON DELETE CASCADE,
    user_id   uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    role      varchar(20) NOT NULL DEFAULT 'member' CHECK (role IN ('admin', 'member', 'viewer')),
    joined_at timestamptz DEFAULT now(),
    PRIMARY KEY (team_id, user_id)
);

CREATE TABLE IF NOT EXISTS models (
    id                                 varchar(255) PRIMARY KEY,
    name                               varchar(255) NOT NULL,
    provider                           varchar(100) NOT NULL,
    description                        text,
    category                           varchar(100),
    context_length                     integer,
    input_cost_per_token               numeric(15, 10),
    output_cost_per_token              numeric(15, 10),
    supports_vision                    boolean DEFAULT false,
    supports_function_calling          boolean DEFAULT false,
    supports_tool_choice               boolean DEFAULT false,
    supports_parallel_function_calling boolean DEFAULT false,
    supports_streaming                 boolean DEFAULT true,
    features                           text[],
    availability                       varchar(50) DEFAULT 'available',
    version                            varchar(50),
    metadata                           jsonb DEFAULT '{}',
    api_base                           varchar(500),
    tpm                                integer,
    rpm                                integer,
    max_tokens                         integer,
    litellm_model_id                   varchar(255),
    backend_model_name                 varchar(255),
    restricted_access                  boolean DEFAULT false,
    encrypted_api_key                  text,
    created_at                         timestamptz DEFAULT now(),
    updated_at                         timestamptz DEFAULT now()
);

CREATE OR REPLACE FUNCTION set_updated_at() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.updated_at := now();
    RETURN NEW;
END
$$;

CREATE OR REPLACE TRIGGER models_set_updated_at
    BEFORE UPDATE ON models
    FOR EACH ROW EXECUTE FUNCTION set_updated_at();

-- model_id has no ON DELETE action, so a subscription keeps its model from being deleted.
CREATE TABLE IF NOT EXISTS subscriptions (
    id                 uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    user_id            uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    model_id           varchar(255) NOT NULL REFERENCES models (id),
    team_id            uuid REFERENCES teams (id),
    status             varchar(20) NOT NULL DEFAULT 'active'
        CHECK (status IN ('active', 'suspended', 'cancelled', 'expired', 'inactive', 'pending', 'denied')),
    quota_requests     bigint NOT NULL DEFAULT 0,
    quota_tokens       bigint NOT NULL DEFAULT 0,
    used_requests      bigint DEFAULT 0,
    used_tokens        bigint DEFAULT 0,
    max_budget         numeric(10, 2),
    current_spend      numeric(10, 2) DEFAULT 0,
    budget_duration    varchar(50),
    tpm_limit          integer,
    rpm_limit          integer,
    allowed_models     text[],
    lite_llm_key_value varchar(255),
    reset_at           timestamptz,
    expires_at         timestamptz,
    last_sync_at       timestamptz,
    sync_status        varchar(20) DEFAULT 'pending' CHECK (sync_status IN ('pending', 'synced', 'error')),
    sync_error         text,
    status_reason      text,
    status_changed_at  timestamptz,
    status_changed_by  uuid REFERENCES users (id),
    created_at         timestamptz DEFAULT now(),
    updated_at         timestamptz DEFAULT now(),
    UNIQUE (user_id, model_id)
);

CREATE TABLE IF NOT EXISTS subscription_status_history (
    id              uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    subscription_id uuid NOT NULL REFERENCES subscriptions (id) ON DELETE CASCADE,
    old_status      varchar(20),
    new_status      varchar(20) NOT NULL,
    reason          text,
    changed_by      uuid REFERENCES users (id),
    changed_at      timestamptz DEFAULT now()
);

CREATE TABLE IF NOT EXISTS api_keys (
    id                    uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    subscription_id       uuid REFERENCES subscriptions (id) ON DELETE CASCADE,
    user_id               uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    name                  varchar(255),
    key_hash              varchar(255) NOT NULL UNIQUE,
    key_prefix            varchar(20) NOT NULL,
    lite_llm_key_value    varchar(255),
    litellm_key_alias     varchar(255),
    permissions           jsonb DEFAULT '{}',
    max_budget            numeric(10, 2),
    current_spend         numeric(10, 2) DEFAULT 0,
    soft_budget           numeric(10, 2),
    budget_duration       varchar(50),
    budget_reset_at       timestamptz,
    tpm_limit             integer,
    rpm_limit             integer,
    max_parallel_requests integer,
    model_max_budget      jsonb,
    model_rpm_limit       jsonb,
    model_tpm_limit       jsonb,
    tags                  text[],
    metadata              jsonb DEFAULT '{}',
    last_used_at          timestamptz,
    expires_at            timestamptz,
    is_active             boolean DEFAULT true,
    revoked_at            timestamptz,
    last_sync_at          timestamptz,
    sync_status           varchar(20) DEFAULT 'pending' CHECK (sync_status IN ('pending', 'synced', 'error')),
    sync_error            text,
    migration_status      varchar(50),
    created_at            timestamptz DEFAULT now(),
    updated_at            timestamptz DEFAULT now()
);

CREATE TABLE IF NOT EXISTS api_key_models (
    api_key_id uuid NOT NULL REFERENCES api_keys (id) ON DELETE CASCADE,
    model_id   varchar(255) NOT NULL REFERENCES models (id) ON DELETE CASCADE,
    created_at timestamptz DEFAULT now(),
    PRIMARY KEY (api_key_id, model_id)
);

CREATE TABLE IF NOT EXISTS audit_logs (
    id            uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    user_id       uuid REFERENCES users (id),
    action        varchar(100) NOT NULL,
    resource_type varchar(50) NOT NULL,
    resource_id   varchar(255),
    old_values    jsonb,
    new_values    jsonb,
    ip_address    inet,
    user_agent    text,
    session_id    varchar(255),
    success       boolean DEFAULT true,
    error_message text,
    metadata      jsonb DEFAULT '{}',
    created_at    timestamptz DEFAULT now()
);

CREATE TABLE IF NOT EXISTS refresh_tokens (
    id         uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    user_id    uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    token_hash varchar(255) NOT NULL UNIQUE,
    expires_at timestamptz NOT NULL,
    revoked_at timestamptz,
    created_at timestamptz DEFAULT now()
);

CREATE TABLE IF NOT EXISTS oauth_sessions (
    id            uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    state         varchar(255) NOT NULL UNIQUE,
    code_verifier varchar(255),
    redirect_uri  text,
    expires_at    timestamptz NOT NULL,
    created_at    timestamptz DEFAULT now()
);

CREATE TABLE IF NOT EXISTS banner_announcements (
    id             uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    name           varchar(255) NOT NULL,
    content        jsonb NOT NULL DEFAULT '{}',
    variant        varchar(20) DEFAULT 'info',
    is_active      boolean DEFAULT false,
    is_dismissible boolean DEFAULT true,
    created_by     uuid REFERENCES users (id),
    updated_by     uuid REFERENCES users (id),
    created_at     timestamptz DEFAULT now(),
    updated_at     timestamptz DEFAULT now()
);

CREATE TABLE IF NOT EXISTS user_banner_dismissals (
    user_id      uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    banner_id    uuid NOT NULL REFERENCES banner_announcements (id) ON DELETE CASCADE,
    dismissed_at timestamptz DEFAULT now(),
    PRIMARY KEY (user_id, banner_id)
);

CREATE TABLE IF NOT EXISTS banner_audit_log (
    id         uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    banner_id  uuid,
    action     varchar(50) NOT NULL,
    changed_by uuid REFERENCES users (id),
    old_values jsonb,
    new_values jsonb,
    changed_at timestamptz DEFAULT now()
);

CREATE TABLE IF NOT EXISTS daily_usage_cache (
    date        date PRIMARY KEY,
    raw_data    jsonb NOT NULL DEFAULT '{}',
    is_complete boolean DEFAULT false,
    created_at  timestamptz DEFAULT now(),
    updated_at  timestamptz DEFAULT now()
);

CREATE TABLE IF NOT EXISTS branding_settings (
    id                           integer PRIMARY KEY DEFAULT 1 CHECK (id = 1),
    login_logo_enabled           boolean DEFAULT false,
    login_logo_data              text,
    login_logo_mime_type         varchar(50),
    login_title_enabled          boolean DEFAULT false,
    login_title                  varchar(200),
    login_subtitle_enabled       boolean DEFAULT false,
    login_subtitle               varchar(500),
    header_brand_enabled         boolean DEFAULT false,
    header_brand_light_data      text,
    header_brand_light_mime_type varchar(50),
    header_brand_dark_data       text,
    header_brand_dark_mime_type  varchar(50),
    updated_by                   uuid REFERENCES users (id),
    updated_at                   timestamptz DEFAULT now()
);

CREATE TABLE IF NOT EXISTS system_settings (
    key        varchar(255) PRIMARY KEY,
    value      jsonb NOT NULL,
    updated_by uuid REFERENCES users (id),
    updated_at timestamptz DEFAULT now()
);

CREATE INDEX IF NOT EXISTS subscriptions_model_id ON subscriptions (model_id);
CREATE INDEX IF NOT EXISTS api_keys_user_id ON api_keys (user_id);
CREATE INDEX IF NOT EXISTS api_keys_subscription_id ON api_keys (subscription_id);
CREATE INDEX IF NOT EXISTS api_key_models_model_id ON api_key_models (model_id);
CREATE INDEX IF NOT EXISTS audit_logs_user_id ON audit_logs (user_id);

-- The two rows the backend always has.
INSERT INTO users (id, username, email, full_name, oauth_provider, oauth_id, roles, is_active)
VALUES ('00000000-0000-0000-0000-000000000001', 'system', 'system@litemaas.local', 'System', 'system', 'system', ARRAY['user'], false)
ON CONFLICT DO NOTHING;

INSERT INTO teams (id, name, alias, description, created_by)
VALUES ('a0000000-0000-4000-8000-000000000001', 'Default Team', 'default-team', 'Every user without a team of their own',
        '00000000-0000-0000-0000-000000000001')
ON CONFLICT DO NOTHING;

INSERT INTO branding_settings (id) VALUES (1) ON CONFLICT DO NOTHING;
