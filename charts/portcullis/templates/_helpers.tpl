{{- define "portcullis.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* Leaves 15 of 63 characters for the longest suffix, -policy-authors. */}}
{{- define "portcullis.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 48 | trimSuffix "-" }}
{{- else }}
{{- $name := default .Chart.Name .Values.nameOverride }}
{{- if contains $name .Release.Name }}
{{- .Release.Name | trunc 48 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 48 | trimSuffix "-" }}
{{- end }}
{{- end }}
{{- end }}

{{- define "portcullis.selectorLabels" -}}
app.kubernetes.io/name: {{ include "portcullis.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "portcullis.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "portcullis.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: portcullis
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "portcullis.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "portcullis.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{/* A digest is what is pulled; the tag beside it would only look as if it counted. */}}
{{- define "portcullis.image" -}}
{{- if .Values.image.digest }}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest }}
{{- else }}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) }}
{{- end }}
{{- end }}

{{- define "portcullis.tlsSecretName" -}}
{{ include "portcullis.fullname" . }}-tls
{{- end }}

{{- define "portcullis.webhookServiceName" -}}
{{ include "portcullis.fullname" . }}-webhook
{{- end }}

{{- define "portcullis.secretReaderRoleName" -}}
{{ include "portcullis.fullname" . }}-secret-reader
{{- end }}

{{/*
The names below do not depend on the release: there is one Portcullis per cluster, and documentation and emergency
commands must be true in each.
*/}}

{{/* Of the validating and the mutating one. Webhooks are called by name; zz- makes ours see what others changed. */}}
{{- define "portcullis.webhookConfigurationName" -}}
zz-portcullis
{{- end }}

{{- define "portcullis.leaseName" -}}
portcullis
{{- end }}

{{/* Of the RoleBinding in each governed namespace. */}}
{{- define "portcullis.secretReaderBindingName" -}}
portcullis-secret-reader
{{- end }}
