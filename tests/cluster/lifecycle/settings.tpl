{{ $now := Now }}
{{ $root := . }}
{{ $s := dict }}
{{ range $key, $value := (or .metadata.annotations dict) }}
{{ if hasPrefix "heavylift-test/" $key }}{{ $_ := set $s (trimPrefix "heavylift-test/" $key) $value }}{{ end }}
{{ end }}
{{ $from := get $s "from-env" }}
{{ range .spec.containers }}{{ range .env }}
{{ if and .value (eq .name $from) }}
{{ $object := fromJson (replace "$$" "$" .value) }}
{{ if kindIs "map" $object }}{{ range $key, $value := $object }}{{ $_ := set $s $key $value }}{{ end }}{{ end }}
{{ end }}
{{ end }}{{ end }}
