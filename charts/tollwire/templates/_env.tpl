{{/* Environment of the processes. Passwords come from Secrets alone. */}}

{{/* Host and port for a purpose: run, migrate or read. Takes root, purpose. Several hosts share the port. */}}
{{- define "tollwire.postgresHosts" -}}
{{- $pg := .root.Values.postgresql -}}
{{- $host := $pg.host -}}
{{- $port := $pg.port -}}
{{- if $pg.cnpg.enabled -}}
{{- $name := include "tollwire.postgresName" .root -}}
{{- $host = printf "%s-rw" $name -}}
{{- if and (eq .purpose "run") $pg.cnpg.pooler.enabled -}}
{{- $host = printf "%s-pooler" $name -}}
{{- else if eq .purpose "read" -}}
{{- $host = printf "%s-ro" $name -}}
{{- end -}}
{{- end -}}
{{- if eq .purpose "migrate" -}}
{{- $host = default $host $pg.migrateHost -}}
{{- $port = default $port $pg.migratePort -}}
{{- else if eq .purpose "read" -}}
{{- $host = default $host $pg.readHost -}}
{{- $port = default $port $pg.readPort -}}
{{- end -}}
{{- $found := list -}}
{{- range splitList "," $host -}}
{{- $one := trim . -}}
{{- $found = append $found (ternary $one (printf "%s:%d" $one (int $port)) (contains ":" $one)) -}}
{{- end -}}
{{- join "," $found -}}
{{- end -}}

{{/* A DSN without a password, which stands beside it. Takes root, role, purpose. */}}
{{- define "tollwire.dsn" -}}
{{- $role := index .root.Values.postgresql.roles .role -}}
postgresql://{{ $role.username }}@{{ include "tollwire.postgresHosts" . }}/{{ .root.Values.postgresql.database }}
{{- end -}}

{{/* A variable from a Secret. Takes name, secret, key. */}}
{{- define "tollwire.secretEnv" -}}
- name: {{ .name }}
  valueFrom:
    secretKeyRef:
      name: {{ .secret }}
      key: {{ .key }}
{{- end -}}

{{/* TLS to one of the servers. Takes variable (POSTGRES), folder (postgresql), mode, ca and client (Secrets). */}}
{{- define "tollwire.tlsEnv" -}}
{{- if .mode }}
- name: TOLLWIRE_{{ .variable }}_TLS
  value: {{ .mode }}
{{- end }}
{{- if .ca }}
- name: TOLLWIRE_{{ .variable }}_CA_FILE
  value: /etc/tollwire/{{ .folder }}-ca/ca.crt
{{- end }}
{{- if .client }}
- name: TOLLWIRE_{{ .variable }}_CERT_FILE
  value: /etc/tollwire/{{ .folder }}-client/tls.crt
- name: TOLLWIRE_{{ .variable }}_KEY_FILE
  value: /etc/tollwire/{{ .folder }}-client/tls.key
{{- end }}
{{- end -}}

{{/* The password of a role, and TLS. Takes root, role. */}}
{{- define "tollwire.postgresEnv" -}}
{{- $pg := .root.Values.postgresql -}}
{{- $role := index $pg.roles .role -}}
{{- $ca := include "tollwire.postgresCaSecret" .root -}}
{{- $mode := default (ternary "verify-full" "prefer" (or (ne $ca "") (ne $pg.tls.clientSecret ""))) $pg.tls.mode -}}
{{ include "tollwire.secretEnv" (dict "name" "TOLLWIRE_POSTGRES_PASSWORD" "secret" $role.existingSecret "key" $role.passwordKey) }}
{{- include "tollwire.tlsEnv" (dict "variable" "POSTGRES" "folder" "postgresql" "mode" $mode "ca" $ca "client" $pg.tls.clientSecret) }}
{{- end -}}

{{- define "tollwire.postgresCaSecret" -}}
{{- $pg := .Values.postgresql -}}
{{- if $pg.tls.existingSecret -}}
{{ $pg.tls.existingSecret }}
{{- else if $pg.cnpg.enabled -}}
{{ include "tollwire.postgresName" . }}-ca
{{- end -}}
{{- end -}}

{{- define "tollwire.processEnv" -}}
- name: TOLLWIRE_LOG_LEVEL
  value: {{ .Values.logLevel }}
{{- if .Values.tracing.endpoint }}
- name: OTEL_EXPORTER_OTLP_ENDPOINT
  value: {{ .Values.tracing.endpoint | quote }}
- name: OTEL_TRACES_SAMPLER_ARG
  value: {{ .Values.tracing.sampleRatio | quote }}
{{- end }}
- name: TOLLWIRE_HEALTH_HOST
  value: 0.0.0.0
- name: TOLLWIRE_HEALTH_PORT
  value: "9464"
{{- end -}}

{{- define "tollwire.natsEnv" -}}
{{- $nats := .Values.nats -}}
- name: TOLLWIRE_NATS_URL
  value: {{ $nats.url | quote }}
- name: TOLLWIRE_NATS_REPLICAS
  value: {{ $nats.replicas | quote }}
- name: TOLLWIRE_NATS_STORE_BYTES
  value: {{ printf "%.0f" (float64 $nats.storeBytes) | quote }}
- name: TOLLWIRE_NATS_COMPRESSION
  value: {{ $nats.compression }}
{{- if $nats.tokenKey }}
{{ include "tollwire.secretEnv" (dict "name" "TOLLWIRE_NATS_TOKEN" "secret" $nats.existingSecret "key" $nats.tokenKey) }}
{{- end }}
{{- if $nats.user }}
- name: TOLLWIRE_NATS_USER
  value: {{ $nats.user | quote }}
{{ include "tollwire.secretEnv" (dict "name" "TOLLWIRE_NATS_PASSWORD" "secret" $nats.existingSecret "key" $nats.passwordKey) }}
{{- end }}
{{- if $nats.credentialsKey }}
- name: TOLLWIRE_NATS_CREDS_FILE
  value: /etc/tollwire/nats/credentials
{{- end }}
{{- if $nats.nkeyKey }}
- name: TOLLWIRE_NATS_NKEY_FILE
  value: /etc/tollwire/nats/nkey
{{- end }}
{{- include "tollwire.tlsEnv" (dict "variable" "NATS" "folder" "nats" "mode" $nats.tls.mode "ca" $nats.tls.existingSecret "client" $nats.tls.clientSecret) }}
{{- end -}}

{{- define "tollwire.valkeyEnv" -}}
{{- $valkey := .Values.valkey -}}
{{- if $valkey.url }}
- name: TOLLWIRE_VALKEY_URL
  value: {{ $valkey.url | quote }}
{{- if $valkey.user }}
- name: TOLLWIRE_VALKEY_USER
  value: {{ $valkey.user | quote }}
{{- end }}
{{- if $valkey.existingSecret }}
{{ include "tollwire.secretEnv" (dict "name" "TOLLWIRE_VALKEY_PASSWORD" "secret" $valkey.existingSecret "key" $valkey.passwordKey) }}
{{- if $valkey.sentinelPasswordKey }}
{{ include "tollwire.secretEnv" (dict "name" "TOLLWIRE_VALKEY_SENTINEL_PASSWORD" "secret" $valkey.existingSecret "key" $valkey.sentinelPasswordKey) }}
{{- end }}
{{- end }}
{{- include "tollwire.tlsEnv" (dict "variable" "VALKEY" "folder" "valkey" "mode" $valkey.tls.mode "ca" $valkey.tls.existingSecret "client" $valkey.tls.clientSecret) }}
{{- end }}
{{- end -}}

{{/* What every process that handles messages is told. Takes root, role, values. */}}
{{- define "tollwire.commonEnv" -}}
{{ include "tollwire.processEnv" .root }}
- name: TOLLWIRE_POSTGRES_DSN
  value: {{ include "tollwire.dsn" (dict "root" .root "role" .role "purpose" "run") | quote }}
{{ include "tollwire.postgresEnv" . }}
{{- with .values }}
- name: TOLLWIRE_POSTGRES_POOL_MIN
  value: {{ .poolMin | quote }}
- name: TOLLWIRE_POSTGRES_POOL_MAX
  value: {{ .poolMax | quote }}
{{- end }}
{{ include "tollwire.natsEnv" .root }}
{{- include "tollwire.valkeyEnv" .root }}
- name: TOLLWIRE_KEYRING_FILE
  value: /etc/tollwire/keyring/keyring.json
{{- end -}}

{{/* Volumes and mounts of all Secrets that come as files: a list of {name, secret, items}. As JSON. */}}
{{- define "tollwire.secretFiles" -}}
{{- $v := .Values -}}
{{- $files := list (dict "name" "keyring" "secret" $v.keyring.existingSecret "items" (list (dict "key" $v.keyring.key "path" "keyring.json"))) -}}
{{- $postgresCa := include "tollwire.postgresCaSecret" . -}}
{{- if $postgresCa -}}
{{- $files = append $files (dict "name" "postgresql-ca" "secret" $postgresCa "items" (list (dict "key" $v.postgresql.tls.caKey "path" "ca.crt"))) -}}
{{- end -}}
{{- with $v.nats.credentialsKey -}}
{{- $files = append $files (dict "name" "nats" "secret" $v.nats.existingSecret "items" (list (dict "key" . "path" "credentials"))) -}}
{{- end -}}
{{- with $v.nats.nkeyKey -}}
{{- $files = append $files (dict "name" "nats" "secret" $v.nats.existingSecret "items" (list (dict "key" . "path" "nkey"))) -}}
{{- end -}}
{{- range $name, $tls := dict "postgresql" $v.postgresql.tls "nats" $v.nats.tls "valkey" $v.valkey.tls -}}
{{- if and $tls.existingSecret (ne $name "postgresql") -}}
{{- $files = append $files (dict "name" (printf "%s-ca" $name) "secret" $tls.existingSecret "items" (list (dict "key" $tls.caKey "path" "ca.crt"))) -}}
{{- end -}}
{{- if $tls.clientSecret -}}
{{- $files = append $files (dict "name" (printf "%s-client" $name) "secret" $tls.clientSecret "items" (list (dict "key" "tls.crt" "path" "tls.crt") (dict "key" "tls.key" "path" "tls.key"))) -}}
{{- end -}}
{{- end -}}
{{- toJson $files -}}
{{- end -}}
