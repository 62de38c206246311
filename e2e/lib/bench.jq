# Rows of the table of e2e/bench, out of what the measurements left.

def round(digits): pow(10; digits) as $it | . * $it | round / $it;

def row($id; $measured; $value; $unit): {$id, $measured, $value, $unit};
def row($id; $measured; $value; $unit; $at_most): row($id; $measured; $value; $unit) + {atMost: $at_most};

$pod_rules[0].median.point_estimate as $pod_rules
| $all_rules[0].median.point_estimate as $all_rules
| $allocations[0] as $allocations
| $pod_security[0] as $library
| $admission[0] as $admission
| $operator[0] as $operator
| $admission["evaluate"].cpuMicroseconds as $evaluate
| $admission["parse-only"].cpuMicroseconds as $parse
| $admission["allow-all"].cpuMicroseconds as $allow
| {
    machine: $machine[0],
    results: [
        row("B1a"; "one Deployment, pod rules"; $pod_rules | round(0); "ns"),
        row("B1a"; "the same pod, Pod Security library"; $library.nanoseconds | round(0); "ns"),
        row("B1a"; "ratio of the two"; $pod_rules / $library.nanoseconds | round(2); "×"; 2),
        row("B1a"; "allocations, pod rules"; $allocations["pod-rules"].allocations; "per call"),
        row("B1a"; "allocations, Pod Security library"; $library.allocations; "per call"),
        row("B1b"; "one Deployment, all rules"; $all_rules / 1000 | round(2); "µs"; 15),
        row("B1b"; "allocations, all rules"; $allocations["all-rules"].allocations; "per call"),
        row("B2"; "a review, judged"; $evaluate | round(1); "µs of CPU"),
        row("B2"; "a review, parsed into the usual types"; $parse | round(1); "µs of CPU"),
        row("B2"; "a review, not parsed"; $allow | round(1); "µs of CPU"),
        row("B2"; "judged, as a part of parsed"; $evaluate / $parse | round(2); "×"; 0.6),
        row("B5"; "memory, idle"; $operator.memory.idleMegabytes | round(1); "MB"; 15),
        row("B5"; "memory, after 100,000 reviews"; $operator.memory.afterReviewsMegabytes | round(1); "MB"; 30),
        row("B5"; "memory, with 1,000 policies"; $operator.memory.withPoliciesMegabytes | round(1); "MB"; 60),
        row("B6"; "start with 1,000 policies"; $operator.startMilliseconds | round(0); "ms"; 1000)
    ],
    figures: {podRules: $pod_rules, allRules: $all_rules, $allocations, podSecurity: $library, $admission, $operator}
}
