# From Kubernetes' swagger.json: for each kind a line of file name, tab and a schema that refers to nothing outside.

# What a definition must look like for a strict check of what people write.
def strict:
  if type == "object" then
    del(.description)
    | with_entries(.value |= if type == "object" or type == "array" then strict else . end)
    | if .format? == "int-or-string" then {type: ["integer", "string"]} else . end
    | if (.properties? | type) == "object" and has("type") and (has("additionalProperties") | not)
      then .additionalProperties = false else . end
  elif type == "array" then map(if type == "object" or type == "array" then strict else . end)
  else . end;

def references: [.. | objects | .["$ref"]? | strings | ltrimstr("#/definitions/")] | unique;

# The names of all definitions that those in the input lead to.
def reachable($direct):
  . as $seen | ([.[] | $direct[.][]] + . | unique) | if length == ($seen | length) then . else reachable($direct) end;

(.definitions
  # A property called "description" or "properties" is a field, not a keyword: protect it while `strict` runs.
  | map_values(
      if .properties then
        .properties |= with_entries(.key = "field:" + .key) | strict | .properties |= with_entries(.key |= ltrimstr("field:"))
      else strict end)
  | .["io.k8s.apimachinery.pkg.api.resource.Quantity"] = {type: ["string", "number"]}
  | .["io.k8s.apimachinery.pkg.apis.meta.v1.Time"] = {type: ["string", "null"], format: "date-time"}
) as $definitions
| ($definitions | map_values(references)) as $direct
| $definitions | to_entries[]
| select((.value["x-kubernetes-group-version-kind"] // []) | length == 1)
| .value["x-kubernetes-group-version-kind"][0] as $gvk
| (.value
    | .properties.kind.enum = [$gvk.kind]
    | .properties.apiVersion.enum = [[$gvk.group, $gvk.version] | map(select(. != "")) | join("/")]
    | .required = ((.required // []) + ["apiVersion", "kind"] | unique)) as $schema
| (($direct[.key] | reachable($direct)) as $names
    | reduce $names[] as $name ({}; .[$name] = $definitions[$name])) as $needed
| ([$gvk.group | split(".")[0] // empty] + [$gvk.version] | map(select(. != "")) | join("-")) as $suffix
| "\($gvk.kind | ascii_downcase)-\($suffix)\t\($schema + {definitions: $needed} | tojson)"
