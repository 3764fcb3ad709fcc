{{ $phase := ternary "Succeeded" "Failed" (and (eq $code "0") (not $podReason)) }}
{{ $main := get $s "container" | default (index .spec.containers 0).name }}
phase: {{ $phase }}
{{ with $podReason }}
reason: {{ . | Quote }}
{{ end }}
{{ with $podMessage }}
message: {{ . | Quote }}
{{ end }}
conditions:
- {type: Ready, status: "False", reason: {{ printf "Pod%s" (ternary "Completed" "Failed" (eq $phase "Succeeded")) }}, lastTransitionTime: {{ $now | Quote }}}
- {type: ContainersReady, status: "False", reason: {{ printf "Pod%s" (ternary "Completed" "Failed" (eq $phase "Succeeded")) }}, lastTransitionTime: {{ $now | Quote }}}
{{ with get $s "disruption" }}
- {type: DisruptionTarget, status: "True", reason: {{ . | Quote }}, message: staged, lastTransitionTime: {{ $now | Quote }}}
{{ end }}
containerStatuses:
{{ range $index, $container := .spec.containers }}
{{ $started := "" }}
{{ range (or $root.status.containerStatuses list) }}
{{ if and (eq .name $container.name) .state.running }}{{ $started = .state.running.startedAt }}{{ end }}
{{ end }}
- name: {{ .name | Quote }}
  image: {{ .image | Quote }}
  imageID: {{ printf "kwok://%s" .image | Quote }}
  containerID: {{ printf "kwok://%s/%s" $root.metadata.uid .name | Quote }}
  ready: false
  restartCount: 0
  started: false
  state:
    {{ if not $started }}
    waiting: {reason: ContainerCreating}
    {{ else if eq .name $main }}
    {{ $message := get $s "message" | toString }}
    {{ range .env }}{{ if .value }}{{ $message = replace (printf "$(%s)" .name) .value $message }}{{ end }}{{ end }}
    terminated:
      exitCode: {{ $code }}
      reason: {{ $reason | default (ternary "Completed" "Error" (eq $code "0")) | Quote }}
      {{ with $message }}
      message: {{ . | Quote }}
      {{ end }}
      containerID: {{ printf "kwok://%s/%s" $root.metadata.uid .name | Quote }}
      startedAt: {{ $started | Quote }}
      finishedAt: {{ $now | Quote }}
    {{ else }}
    terminated: {exitCode: 0, reason: Completed, startedAt: {{ $started | Quote }}, finishedAt: {{ $now | Quote }}}
    {{ end }}
{{ end }}
