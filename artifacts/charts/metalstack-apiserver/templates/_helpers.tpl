{{/* Labels of every object, besides those that generated templates have. */}}
{{- define "metalstack-apiserver.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" | quote }}
{{- end }}

{{/* Labels of what the Prometheus operator reads. */}}
{{- define "metalstack-apiserver.monitoringLabels" -}}
{{- include "metalstack-apiserver.labels" . }}
{{- with .Values.monitoring.labels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Name of an image: the arguments are the root, and the program's values. */}}
{{- define "metalstack-apiserver.image" -}}
{{- $root := index . 0 }}
{{- $image := (index . 1).image }}
{{- $registry := $image.registry | default $root.Values.image.registry }}
{{- $tag := $image.tag | default $root.Values.image.tag }}
{{- $digest := $image.digest }}
{{- if not (or $tag $digest) }}
{{- /* That of a release is no value: --reuse-values would keep it when the version changes. */ -}}
{{- $digest = index ($root.Chart.Annotations | default dict) (printf "metal-stack.io/digest-of-%s" $image.repository) }}
{{- end }}
{{- with $registry }}{{ trimSuffix "/" . }}/{{ end }}{{ $image.repository }}:{{ $tag | default $root.Chart.AppVersion }}
{{- with $digest }}@{{ . }}{{ end }}
{{- end }}

{{/* Values that may be, or hold, a secret by mistake are refused here and not by the schema, which
quotes what it refuses. */}}

{{/* Refuses what is no URL, or has what a URL must not have, as the programs do. The arguments are the
path of the value, the value, the pattern of its schemes, and how it may begin. */}}
{{- define "metalstack-apiserver.validateURL" -}}
{{- $path := index . 0 }}
{{- $url := index . 1 | default "" }}
{{- if contains "@" $url }}
{{- fail (printf "%s: must have no user and no password" $path) }}
{{- end }}
{{- if regexMatch "[?#]" $url }}
{{- fail (printf "%s: must have no query and no fragment" $path) }}
{{- end }}
{{- if not (regexMatch (printf "^$|^%s://[^/\\s]+(/\\S*)?$" (index . 2)) $url) }}
{{- fail (printf "%s: must begin with %s, and a host, and have no spaces" $path (index . 3)) }}
{{- end }}
{{- if not (regexMatch "^$|^[a-z]+://([^:/]+|\\[[0-9A-Fa-f:.]+\\])(:[1-9][0-9]{0,4})?(/.*)?$" $url) }}
{{- fail (printf "%s: must have a host, or one and a port, before the path" $path) }}
{{- end }}
{{- end }}

{{/* Refuses what is no registry. The arguments are the path of the value, and the value. */}}
{{- define "metalstack-apiserver.validateRegistry" -}}
{{- if not (regexMatch "^$|^[a-zA-Z0-9.-]+(:[0-9]+)?(/[a-z0-9._-]+)*/?$" (index . 1 | default "")) }}
{{- fail (printf "%s: must be a host and a path, such as ghcr.io/metal-stack, without a scheme and without credentials, which are in image.pullSecrets" (index . 0)) }}
{{- end }}
{{- end }}

{{/* Flags of a container: the arguments are the name and the values of the program, and the flags of
the chart. */}}
{{- define "metalstack-apiserver.args" -}}
{{- $name := index . 0 }}
{{- $values := index . 1 }}
{{- $args := index . 2 }}
{{- with $values.logLevel }}
{{- $args = append $args (printf "--v=%d" (int .)) }}
{{- end }}
{{- $set := dict }}
{{- range $args }}
{{- $_ := set $set (regexFind "^--[^=]+" .) true }}
{{- end }}
{{- range $i, $arg := $values.extraArgs }}
{{- if not (regexMatch "^--[a-z][a-z0-9-]*(=.*)?$" $arg) }}
{{- fail (printf "%s.extraArgs[%d]: must be a flag with two dashes and its value, in one line, such as --sweep-interval=30s" $name $i) }}
{{- end }}
{{- $flag := regexFind "^--[^=]+" $arg }}
{{- if hasKey $set $flag }}
{{- fail (printf "%s.extraArgs: %s is set by the chart: use the value for it, or leave it out" $name $flag) }}
{{- end }}
{{- $args = append $args $arg }}
{{- end }}
{{- toYaml $args }}
{{- end }}

{{/* Fields of a Pod's spec that are values as they are. */}}
{{- define "metalstack-apiserver.scheduling" -}}
{{- $root := index . 0 }}
{{- $values := index . 1 }}
{{- with $root.Values.image.pullSecrets }}
imagePullSecrets:
{{- toYaml . | nindent 0 }}
{{- end }}
{{- with $values.priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- with $values.nodeSelector }}
nodeSelector:
{{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.tolerations }}
tolerations:
{{- toYaml . | nindent 0 }}
{{- end }}
{{- with $values.affinity }}
affinity:
{{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* The PodDisruptionBudget of a program, if it has more than one Pod: the arguments are the root, its
name and its values. One of a single Pod would keep its node from ever being drained. */}}
{{- define "metalstack-apiserver.podDisruptionBudget" -}}
{{- $root := index . 0 }}
{{- $name := index . 1 }}
{{- $values := index . 2 }}
{{- if and $values.podDisruptionBudget.enabled (gt (int $values.replicas) 1) }}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ $name }}
  namespace: {{ $root.Release.Namespace | quote }}
  labels:
    app.kubernetes.io/part-of: metalstack-apiserver
    {{- include "metalstack-apiserver.labels" $root | nindent 4 }}
spec:
  minAvailable: {{ $values.podDisruptionBudget.minAvailable }}
  # One that does not work must not keep its node from being drained.
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels:
      app.kubernetes.io/name: {{ $name }}
{{- end }}
{{- end }}
