{{/* The pod of a workload or a Job, and its Deployment. */}}

{{/* Volumes: /tmp, Secrets as files (readable by our group alone), and what is added. Takes tmpSizeLimit, files, extra. */}}
{{- define "tollwire.volumes" -}}
- name: tmp
  emptyDir:
    sizeLimit: {{ .tmpSizeLimit }}
{{- range .files }}
- name: {{ .name }}
  secret:
    secretName: {{ .secret }}
    defaultMode: 288
    items:
      {{- toYaml .items | nindent 6 }}
{{- end }}
{{- with .extra }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "tollwire.volumeMounts" -}}
- name: tmp
  mountPath: /tmp
{{- range .files }}
- name: {{ .name }}
  mountPath: /etc/tollwire/{{ .name }}
  readOnly: true
{{- end }}
{{- with .extra }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Constraints of spread, with the pods' own selector filled in. Takes root, selector, constraints. */}}
{{- define "tollwire.spread" -}}
{{- range .constraints }}
{{- $filled := deepCopy . }}
{{- if not (hasKey . "labelSelector") }}
{{- $_ := set $filled "labelSelector" (dict "matchLabels" $.selector) }}
{{- $_ := set $filled "matchLabelKeys" (list "pod-template-hash") }}
{{- end }}
- {{ toYaml $filled | nindent 2 | trim }}
{{- end }}
{{- end -}}

{{/* A Deployment.
Takes root; component; name (of the object); pool (may be empty); values (component and defaults merged);
isScaled (something else decides on replicas); ports, env, files, volumes, mounts (lists); command. */}}
{{- define "tollwire.deployment" -}}
{{- $v := .values -}}
{{- $selector := merge (dict "app.kubernetes.io/component" .component) (include "tollwire.selectorLabels" .root | fromYaml) -}}
{{- if .pool -}}
{{- $_ := set $selector "tollwire/pool" .pool -}}
{{- end -}}
apiVersion: apps/v1
kind: Deployment
{{ include "tollwire.metadata" (dict "root" .root "name" .name "component" .component) }}
spec:
  {{- if and (not .isScaled) (not (kindIs "invalid" $v.replicas)) }}
  replicas: {{ $v.replicas }}
  {{- end }}
  revisionHistoryLimit: {{ $v.revisionHistoryLimit }}
  strategy:
    {{- if eq $v.strategy.type "Recreate" }}
    type: Recreate
    {{- else }}
    {{- toYaml $v.strategy | nindent 4 }}
    {{- end }}
  selector:
    matchLabels:
      {{- toYaml $selector | nindent 6 }}
  template:
    metadata:
      labels:
        {{- toYaml (merge (dict) $selector $v.podLabels .root.Values.commonLabels (dict "app.kubernetes.io/part-of" "tollwire")) | nindent 8 }}
      {{- with merge (dict) $v.podAnnotations .root.Values.commonAnnotations }}
      annotations:
        {{- toYaml . | nindent 8 }}
      {{- end }}
    spec:
      {{- include "tollwire.podSpec" (dict "root" .root "values" $v) | nindent 6 }}
      serviceAccountName: {{ include "tollwire.serviceAccountName" .root }}
      terminationGracePeriodSeconds: {{ $v.terminationGracePeriodSeconds }}
      {{- with include "tollwire.spread" (dict "selector" $selector "constraints" $v.topologySpreadConstraints) }}
      topologySpreadConstraints:
        {{- . | trim | nindent 8 }}
      {{- end }}
      {{- with $v.initContainers }}
      initContainers:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      containers:
        - name: {{ .component }}
          {{- include "tollwire.container" (dict "root" .root "values" $v "command" .command) | nindent 10 }}
          ports:
            {{- range .ports }}
            - name: {{ .name }}
              containerPort: {{ .port }}
            {{- end }}
          env:
            {{- .env | trim | nindent 12 }}
            {{- with $v.extraEnv }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
          {{- with $v.extraEnvFrom }}
          envFrom:
            {{- toYaml . | nindent 12 }}
          {{- end }}
          {{- range $probe := list "startupProbe" "readinessProbe" "livenessProbe" }}
          {{- with index $v $probe }}
          {{ $probe }}:
            {{- toYaml . | nindent 12 }}
          {{- end }}
          {{- end }}
          {{- with $v.lifecycle }}
          lifecycle:
            {{- toYaml . | nindent 12 }}
          {{- end }}
          volumeMounts:
            {{- include "tollwire.volumeMounts" (dict "files" .files "extra" (concat .mounts $v.extraVolumeMounts)) | nindent 12 }}
        {{- with $v.extraContainers }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      volumes:
        {{- include "tollwire.volumes" (dict "tmpSizeLimit" $v.tmpSizeLimit "files" .files "extra" (concat .volumes $v.extraVolumes)) | nindent 8 }}
{{- end -}}

{{/* What every pod of ours begins with. Takes root, values. */}}
{{- define "tollwire.podSpec" -}}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  {{- toYaml .values.podSecurityContext | nindent 2 }}
{{- with .values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Image, command, security and resources of a container. Takes root, values, command. */}}
{{- define "tollwire.container" -}}
image: {{ include "tollwire.image" .root }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
command: {{ toJson .command }}
securityContext:
  {{- toYaml .values.securityContext | nindent 2 }}
resources:
  {{- toYaml .values.resources | nindent 2 }}
{{- end -}}

{{/* A Job that runs one command of ours. Takes root, name, component, command, env, files, resources,
hooks (annotations that make it one), backoffLimit, activeDeadlineSeconds, ttlSecondsAfterFinished. */}}
{{- define "tollwire.job" -}}
{{- $v := mergeOverwrite (deepCopy .root.Values.defaults) (dict "resources" .resources) -}}
apiVersion: batch/v1
kind: Job
{{ include "tollwire.metadata" (dict "root" .root "name" .name "component" .component "annotations" .annotations) }}
spec:
  backoffLimit: {{ .backoffLimit }}
  activeDeadlineSeconds: {{ .activeDeadlineSeconds }}
  {{- if .ttlSecondsAfterFinished }}
  ttlSecondsAfterFinished: {{ .ttlSecondsAfterFinished }}
  {{- end }}
  template:
    metadata:
      labels:
        {{- include "tollwire.labels" .root | nindent 8 }}
        app.kubernetes.io/component: {{ .component }}
    spec:
      {{- include "tollwire.podSpec" (dict "root" .root "values" $v) | nindent 6 }}
      restartPolicy: Never
      containers:
        - name: {{ .component }}
          {{- include "tollwire.container" (dict "root" .root "values" $v "command" .command) | nindent 10 }}
          env:
            {{- .env | trim | nindent 12 }}
          volumeMounts:
            {{- include "tollwire.volumeMounts" (dict "files" .files "extra" (list)) | nindent 12 }}
      volumes:
        {{- include "tollwire.volumes" (dict "tmpSizeLimit" $v.tmpSizeLimit "files" .files "extra" (list)) | nindent 8 }}
{{- end -}}
