{{/* Name in front of all objects: the release's. */}}
{{- define "heavylift.fullname" -}}
{{- default .Release.Name .Values.fullnameOverride | trunc 50 | trimSuffix "-" }}
{{- end }}

{{- define "heavylift.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: heavylift
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* metadata of an object: (dict "root" $ "name" ... "component" ... "namespace" ... "annotations" ...) */}}
{{- define "heavylift.metadata" -}}
name: {{ .name }}
{{- if not .cluster }}
namespace: {{ default .root.Release.Namespace .namespace }}
{{- end }}
labels:
  {{- include "heavylift.labels" .root | nindent 2 }}
  {{- with .component }}
  app.kubernetes.io/component: {{ . }}
  {{- end }}
  {{- with .labels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with merge (dict) (default (dict) .annotations) (default (dict) .root.Values.commonAnnotations) }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* (dict "root" $ "component" ...) */}}
{{- define "heavylift.selector" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "heavylift.crdAnnotations" -}}
{{- $annotations := dict }}
{{- if .Values.crds.keep }}
{{- $_ := set $annotations "helm.sh/resource-policy" "keep" }}
{{- end }}
{{- toYaml (merge $annotations .Values.crds.annotations .Values.commonAnnotations) }}
{{- end }}

{{/* (dict "root" $ "image" .Values.image "tag" default) */}}
{{- define "heavylift.image" -}}
{{- $registry := .image.registry }}
{{- with .root.Values.global }}
{{- $registry = default $registry .imageRegistry }}
{{- end }}
{{- $name := .image.repository }}
{{- if $registry }}
{{- $name = printf "%s/%s" (trimSuffix "/" $registry) .image.repository }}
{{- end }}
{{- if .image.digest }}
{{- printf "%s@%s" $name .image.digest }}
{{- else }}
{{- printf "%s:%s" $name (default .tag .image.tag) }}
{{- end }}
{{- end }}

{{- define "heavylift.installId" -}}
{{- default (printf "%s/%s" .Release.Namespace .Release.Name) .Values.installId }}
{{- end }}

{{/* Namespaces served, as JSON: {"names": [...]} */}}
{{- define "heavylift.namespaces" -}}
{{- $names := list }}
{{- range .Values.watchNamespaces }}
{{- $names = append $names .name }}
{{- end }}
{{- if not $names }}
{{- $names = list .Release.Namespace }}
{{- end }}
{{- dict "names" (uniq $names) | toJson }}
{{- end }}

{{- define "heavylift.serviceAccount" -}}
{{- $account := (index .root.Values .component).serviceAccount }}
{{- if $account.create }}
{{- default (printf "%s-%s" (include "heavylift.fullname" .root) .component) $account.name }}
{{- else }}
{{- required (printf "%s.serviceAccount.name is missing: name the account to use, or set %s.serviceAccount.create=true" .component .component) $account.name }}
{{- end }}
{{- end }}

{{/* "true" where the operator serves the external metrics API, else empty */}}
{{- define "heavylift.metricsApi" -}}
{{- $autoscaling := .Values.autoscaling | default dict }}
{{- if or .Values.operator.metricsApi.enabled (and $autoscaling.enabled (eq (default "" $autoscaling.provider) "external-metrics")) }}true{{- end }}
{{- end }}

{{- define "heavylift.metricsApiSecret" -}}
{{- default (printf "%s-metrics-api" (include "heavylift.fullname" .)) .Values.operator.metricsApi.existingSecret }}
{{- end }}

{{/* Where Redis is, as JSON: {"url", "username", "secret", "key"} */}}
{{- define "heavylift.redis" -}}
{{- $external := .Values.redis.external }}
{{- $embedded := .Values.redis.embedded }}
{{- if and $embedded.enabled $external.host }}
{{- fail "redis.external.host and redis.embedded.enabled are both set: set redis.embedded.enabled=false to use your own Redis" }}
{{- end }}
{{- if $embedded.enabled }}
{{- $name := printf "%s-redis" (include "heavylift.fullname" .) }}
{{- dict "url" (printf "redis://%s.%s:6379/0" $name .Release.Namespace) "username" "" "secret" (default $name $embedded.existingSecret) "key" (ternary $embedded.existingSecretKey "password" (ne $embedded.existingSecret "")) | toJson }}
{{- else }}
{{- $host := required "no Redis: set redis.external.host, or redis.embedded.enabled=true" $external.host }}
{{- dict "url" (printf "%s://%s:%d/%d" (ternary "rediss" "redis" $external.tls.enabled) $host (int $external.port) (int $external.db)) "username" $external.username "secret" $external.existingSecret "key" $external.existingSecretKey | toJson }}
{{- end }}
{{- end }}

{{/* Where pods may go: (dict "values" .Values.x) */}}
{{- define "heavylift.scheduling" -}}
{{- with .priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* A process of ours: (dict "root" $ "component" "dispatcher" "env" [...]); where it serves requests besides, also
"ports" [...], "ready" (an httpGet) and "drainSeconds" (it goes on serving so long while its endpoint is taken away) */}}
{{- define "heavylift.process" -}}
{{- $values := index .root.Values .component }}
{{- $redis := include "heavylift.redis" .root | fromJson }}
{{- $namespaces := (include "heavylift.namespaces" .root | fromJson).names }}
apiVersion: apps/v1
kind: Deployment
metadata:
  {{- include "heavylift.metadata" (dict "root" .root "component" .component "name" (printf "%s-%s" (include "heavylift.fullname" .root) .component)) | nindent 2 }}
spec:
  {{- if not (and (eq .component "dispatcher") .root.Values.autoscaling.enabled) }}
  replicas: {{ $values.replicaCount }}
  {{- end }}
  selector:
    matchLabels:
      {{- include "heavylift.selector" (dict "root" .root "component" .component) | nindent 6 }}
  template:
    metadata:
      labels:
        {{- include "heavylift.labels" .root | nindent 8 }}
        app.kubernetes.io/component: {{ .component }}
        {{- with $values.podLabels }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      annotations:
        kubectl.kubernetes.io/default-container: {{ .component }}
        {{- with $values.podAnnotations }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    spec:
      serviceAccountName: {{ include "heavylift.serviceAccount" (dict "root" .root "component" .component) }}
      automountServiceAccountToken: true
      enableServiceLinks: false
      terminationGracePeriodSeconds: {{ $values.terminationGracePeriodSeconds }}
      securityContext:
        {{- toYaml $values.podSecurityContext | nindent 8 }}
      {{- with .root.Values.imagePullSecrets }}
      imagePullSecrets:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- include "heavylift.scheduling" $values | nindent 6 }}
      topologySpreadConstraints:
        {{- with $values.topologySpreadConstraints }}
        {{- toYaml . | nindent 8 }}
        {{- else }}
        - maxSkew: 1
          topologyKey: kubernetes.io/hostname
          whenUnsatisfiable: ScheduleAnyway
          labelSelector:
            matchLabels:
              {{- include "heavylift.selector" (dict "root" .root "component" .component) | nindent 14 }}
        {{- end }}
      containers:
        - name: {{ .component }}
          image: {{ include "heavylift.image" (dict "root" .root "image" .root.Values.image "tag" .root.Chart.AppVersion) | quote }}
          imagePullPolicy: {{ .root.Values.image.pullPolicy }}
          command: [heavylift-{{ .component }}]
          env:
            - name: HEAVYLIFT_INSTALL_ID
              value: {{ include "heavylift.installId" .root | quote }}
            - name: HEAVYLIFT_NAMESPACES
              value: {{ join "," $namespaces | quote }}
            - name: HEAVYLIFT_REDIS_URL
              value: {{ $redis.url | quote }}
            {{- with $redis.username }}
            - name: HEAVYLIFT_REDIS_USERNAME
              value: {{ . | quote }}
            {{- end }}
            {{- if $redis.secret }}
            - name: HEAVYLIFT_REDIS_PASSWORD_FILE
              value: /etc/heavylift/redis/password
            {{- end }}
            - name: HEAVYLIFT_LOG_LEVEL
              value: {{ .root.Values.logLevel | quote }}
            - name: HEAVYLIFT_HTTP_PORT
              value: "8080"
            {{- range .env }}
            - name: {{ .name }}
              value: {{ .value | quote }}
            {{- end }}
            {{- with $values.extraEnv }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
          ports:
            - name: http
              containerPort: 8080
            {{- with .ports }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
          {{- with .drainSeconds }}
          lifecycle:
            preStop:
              sleep: {seconds: {{ . }}}
          {{- end }}
          livenessProbe:
            httpGet: {path: /livez, port: http}
            initialDelaySeconds: 10
            periodSeconds: 10
            timeoutSeconds: 5
            failureThreshold: 3
          readinessProbe:
            httpGet: {{ default (dict "path" "/readyz" "port" "http") .ready | toJson }}
            periodSeconds: 5
            timeoutSeconds: 5
            failureThreshold: 2
          startupProbe:
            httpGet: {path: /livez, port: http}
            periodSeconds: 1
            timeoutSeconds: 5
            failureThreshold: 120
          resources:
            {{- toYaml $values.resources | nindent 12 }}
          securityContext:
            {{- toYaml $values.securityContext | nindent 12 }}
          volumeMounts:
            - name: tmp
              mountPath: /tmp
            {{- if $redis.secret }}
            - name: redis-password
              mountPath: /etc/heavylift/redis
              readOnly: true
            {{- end }}
      volumes:
        - name: tmp
          emptyDir: {sizeLimit: 64Mi}
        {{- if $redis.secret }}
        - name: redis-password
          secret:
            secretName: {{ $redis.secret }}
            items:
              - key: {{ $redis.key }}
                path: password
        {{- end }}
{{- end }}
