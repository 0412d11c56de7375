{{/* What all pods may open on the primary: every pool at its limit, every autoscaler at its maximum, and the pods
that a rollout adds. Not those that end meanwhile: with them, new and old may for moments be twice the pods, and
room for that would lie idle all year. A pooler gives each role so much in each of its pods, and no more. A number. */}}
{{- define "tollwire.connections" -}}
{{- $pooler := .Values.postgresql.cnpg.pooler -}}
{{- $sum := 0 -}}
{{- range $name := list "api" "worker" "dlr" "ledger" -}}
{{- if (index $.Values $name).enabled -}}
{{- $own := 0 -}}
{{- range $one := include "tollwire.deploymentsOf" (dict "root" $ "component" $name) | fromJsonArray -}}
{{- $own = add $own (mul (int $one.poolMax) (include "tollwire.podsAtMost" $one | int)) -}}
{{- end -}}
{{- if and $.Values.postgresql.cnpg.enabled $pooler.enabled -}}
{{- $own = min $own (mul (int $pooler.defaultPoolSize) (int $pooler.instances)) -}}
{{- end -}}
{{- $sum = add $sum $own -}}
{{- end -}}
{{- end -}}
{{- $sum -}}
{{- end -}}

{{/* The values of each Deployment of a component, the pools of workers among them. Takes root, component; a list as JSON. */}}
{{- define "tollwire.deploymentsOf" -}}
{{- $found := list (include "tollwire.valuesOf" . | fromYaml) -}}
{{- if eq .component "worker" -}}
{{- range $pool := .root.Values.worker.pools -}}
{{- $found = append $found (include "tollwire.valuesOfPool" (dict "root" $.root "pool" $pool) | fromYaml) -}}
{{- end -}}
{{- end -}}
{{- toJson $found -}}
{{- end -}}

{{/* Pods of a Deployment at its most, with those that a rollout adds; where nothing is said, one. Takes its values. */}}
{{- define "tollwire.podsAtMost" -}}
{{- $pods := 1 -}}
{{- if and .autoscaling .autoscaling.enabled -}}
{{- $pods = int .autoscaling.maxReplicas -}}
{{- else if and .keda .keda.enabled -}}
{{- $pods = int .keda.maxReplicaCount -}}
{{- else if not (kindIs "invalid" .replicas) -}}
{{- $pods = int .replicas -}}
{{- end -}}
{{- $surge := "0" -}}
{{- if ne .strategy.type "Recreate" -}}
{{- $rolling := default (dict) .strategy.rollingUpdate -}}
{{- $surge = ternary $rolling.maxSurge "25%" (hasKey $rolling "maxSurge") | toString -}}
{{- end -}}
{{- if hasSuffix "%" $surge -}}
{{- $surge = div (add (mul $pods (trimSuffix "%" $surge | int)) 99) 100 -}}
{{- end -}}
{{- add $pods (int $surge) -}}
{{- end -}}

{{/* What the database of the chart gives. A number. */}}
{{- define "tollwire.maxConnections" -}}
{{- default "800" .Values.postgresql.cnpg.parameters.max_connections -}}
{{- end -}}
