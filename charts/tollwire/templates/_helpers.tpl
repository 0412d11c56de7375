{{/* Names. */}}
{{- define "tollwire.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* Begins the names of all objects; room is left for what follows, since names end at 63 characters. */}}
{{- define "tollwire.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "tollwire.name" . -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "tollwire.selectorLabels" -}}
app.kubernetes.io/name: {{ include "tollwire.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "tollwire.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "tollwire.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: tollwire
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* metadata of an object. Takes root, name, component (may be empty), labels, annotations. */}}
{{- define "tollwire.metadata" -}}
metadata:
  name: {{ .name }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "tollwire.labels" .root | nindent 4 }}
    {{- with .component }}
    app.kubernetes.io/component: {{ . }}
    {{- end }}
    {{- with .labels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with merge (dict) (default (dict) .annotations) .root.Values.commonAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}

{{- define "tollwire.image" -}}
{{- $image := .Values.image -}}
{{- if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{ $image.repository }}:{{ default .Chart.AppVersion $image.tag }}
{{- end -}}
{{- end -}}

{{- define "tollwire.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{ default (include "tollwire.fullname" .) .Values.serviceAccount.name }}
{{- else -}}
{{ default "default" .Values.serviceAccount.name }}
{{- end -}}
{{- end -}}

{{/* Workloads that talk to PostgreSQL, and those that run: a list as JSON, the pools of workers among them. */}}
{{- define "tollwire.components" -}}
{{- $found := list -}}
{{- range $name := list "api" "worker" "dlr" "ledger" "simulator" -}}
{{- if (index $.Values $name).enabled -}}
{{- $found = append $found $name -}}
{{- end -}}
{{- end -}}
{{- toJson $found -}}
{{- end -}}

{{/* The values of a component: its own before the defaults. Where the ledger's volume can be mounted once and
nothing is said of it, its old pod ends first. Takes root, component; YAML out. */}}
{{- define "tollwire.valuesOf" -}}
{{- $own := deepCopy (index .root.Values .component) -}}
{{- if and (eq .component "ledger") (not $own.strategy) $own.persistence.enabled (not (has "ReadWriteMany" $own.persistence.accessModes)) -}}
{{- $_ := set $own "strategy" (dict "type" "Recreate") -}}
{{- end -}}
{{- toYaml (mergeOverwrite (deepCopy .root.Values.defaults) $own) -}}
{{- end -}}

{{/* The values of a pool of workers: its own before the first's. Takes root, pool; YAML out. */}}
{{- define "tollwire.valuesOfPool" -}}
{{- $first := include "tollwire.valuesOf" (dict "root" .root "component" "worker") | fromYaml -}}
{{- toYaml (mergeOverwrite $first (deepCopy .pool)) -}}
{{- end -}}

{{/* Stop unless the cluster knows a kind. Takes root, version (group/version), kind, what. */}}
{{- define "tollwire.needs" -}}
{{- if and .root.Values.crdCheck (not (.root.Capabilities.APIVersions.Has (printf "%s/%s" .version .kind))) (not (.root.Capabilities.APIVersions.Has .version)) -}}
{{- fail (printf "%s wants %s of %s, and the cluster does not know it: install its operator first, or set crdCheck=false where there is no cluster to ask" .what .kind .version) -}}
{{- end -}}
{{- end -}}

{{- define "tollwire.postgresName" -}}
{{ default (printf "%s-postgres" (include "tollwire.fullname" .)) .Values.postgresql.cnpg.name }}
{{- end -}}
