// Measures how long the Pod Security library of Kubernetes takes to judge the pod of a file, at level restricted and
// its latest version, and prints the result as JSON.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
)

// The library logs nothing and keeps no state, so that the median of a few rounds is all that noise asks for.
const rounds = 5

type result struct {
	Nanoseconds float64 `json:"nanoseconds"`
	Allocations int64   `json:"allocations"`
	Bytes       int64   `json:"bytes"`
	Checks      int     `json:"checks"`
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "pod-security:", err)
		os.Exit(1)
	}
}

func run() error {
	if len(os.Args) != 2 {
		return fmt.Errorf("the argument must be the file of a pod, as JSON")
	}
	pod, err := read(os.Args[1])
	if err != nil {
		return err
	}
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		return err
	}
	level := api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}
	results := evaluator.EvaluatePod(level, &pod.ObjectMeta, &pod.Spec)
	for _, it := range results {
		if !it.Allowed {
			return fmt.Errorf("the pod must comply, got %s: %s", it.ForbiddenReason, it.ForbiddenDetail)
		}
	}
	measured := median(func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			evaluator.EvaluatePod(level, &pod.ObjectMeta, &pod.Spec)
		}
	})
	measured.Checks = len(results)
	return json.NewEncoder(os.Stdout).Encode(measured)
}

func read(path string) (*corev1.Pod, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	pod := &corev1.Pod{}
	return pod, json.Unmarshal(text, pod)
}

// The round in the middle, by time.
func median(benchmark func(*testing.B)) result {
	results := make([]result, rounds)
	for index := range results {
		it := testing.Benchmark(benchmark)
		results[index] = result{
			Nanoseconds: float64(it.T.Nanoseconds()) / float64(it.N),
			Allocations: it.AllocsPerOp(),
			Bytes:       it.AllocedBytesPerOp(),
		}
	}
	slices.SortFunc(results, func(a, b result) int { return int(a.Nanoseconds - b.Nanoseconds) })
	return results[rounds/2]
}
