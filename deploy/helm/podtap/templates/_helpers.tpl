{{/* The image, as scripts/image tags it. */}}
{{- define "podtap.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{/* The runtime's socket as podtapd wants it; empty where there is none. */}}
{{- define "podtap.runtimeEndpoint" -}}
{{ with .Values.runtimeSocket }}unix://{{ . }}{{ end }}
{{- end }}

{{/* A typo in the settings is told here, not by 100 nodes. podtapd checks the rest. */}}
{{- define "podtap.config" -}}
{{- $settings := fromYaml .Values.config }}
{{- if hasKey $settings "Error" }}
{{- fail (printf "config is not YAML, or not an object: %s" $settings.Error) }}
{{- end }}
{{- $known := list "failurePolicy" "log" "policy" "taps" }}
{{- range $name, $_ := $settings }}
{{- if not (has $name $known) }}
{{- fail (printf "config.%s is an unknown setting; known are %s" $name (join ", " $known)) }}
{{- end }}
{{- end }}
{{- .Values.config }}
{{- end }}
