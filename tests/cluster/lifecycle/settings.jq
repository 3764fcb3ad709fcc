def settings:
  ((.metadata.annotations // {}) | with_entries(select(.key | startswith("heavylift-test/")) | .key |= ltrimstr("heavylift-test/"))) as $set
  | $set + (([.spec.containers[].env[]? | select(.name == $set["from-env"]) | .value // "" | gsub("\\$\\$"; "$") | fromjson? | objects] | first) // {});
def ms: (. // 0) | tostring + "ms";
def ending:
  settings as $set
  | [if $set["hold"] // false | tostring == "true" then empty
     elif $set["run-ms"] != null then $set["run-ms"] | tonumber
     elif [.metadata.ownerReferences[]?.kind] | index("Job") then 0
     elif $set["exit-code"] != null or $set["reason"] != null then 0
     else empty end,
     (.spec.activeDeadlineSeconds // empty) * 1000]
  | min;
