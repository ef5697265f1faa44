{{- define "zabra.name" -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "zabra.selector" -}}
app.kubernetes.io/name: zabra
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "zabra.labels" -}}
{{ include "zabra.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}
