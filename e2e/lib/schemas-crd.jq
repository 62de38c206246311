# From a CustomResourceDefinition: for each served version a line of file name, tab and schema.

# `strict` goes down the schema itself, never into a field that happens to be called like a keyword.
def strict:
  if .["x-kubernetes-int-or-string"]? then del(.type) | .anyOf = [{type: "integer"}, {type: "string"}] else . end
  | if .properties then .properties |= map_values(strict) else . end
  | if (.items | type) == "object" then .items |= strict else . end
  | if (.additionalProperties | type) == "object" then .additionalProperties |= strict else . end
  | if .properties and (has("additionalProperties") | not) and (.["x-kubernetes-preserve-unknown-fields"] | not)
    then .additionalProperties = false else . end
  | if .nullable and .type then .type = ([.type, "null"] | flatten) else . end;

select(.kind == "CustomResourceDefinition")
| .spec as $crd
| $crd.versions[]
| .name as $version
| (.schema.openAPIV3Schema
    | .properties = {apiVersion: {type: "string", enum: ["\($crd.group)/\($version)"]},
                     kind: {type: "string", enum: [$crd.names.kind]}, metadata: {type: "object"}}
                    + (.properties | del(.apiVersion, .kind, .metadata))
    | .required = ((.required // []) + ["apiVersion", "kind", "metadata"] | unique)
    | strict)
| "\($crd.names.kind | ascii_downcase)-\($crd.group | split(".")[0] | ascii_downcase)-\($version)\t\(tojson)"
