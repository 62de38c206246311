// One program that is every Kubernetes server, chosen by the name it is called by
// (`kube-apiserver`, through a symbolic link) or by its first argument. They share nearly all of
// their packages: one binary is linked once and takes the disk of one.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
)

func main() {
	name := filepath.Base(os.Args[0])
	if run(name) {
		return
	}
	if len(os.Args) > 1 {
		os.Args = os.Args[1:]
		if run(os.Args[0]) {
			return
		}
	}
	fmt.Fprintf(os.Stderr, "%s: must be called as etcd, kube-apiserver, kube-controller-manager, kube-scheduler, kubelet or kube-proxy\n", name)
	os.Exit(2)
}

// run runs the named server to its end; false if there is none of that name.
func run(name string) bool {
	var command *cobra.Command
	switch name {
	case "etcd":
		etcdmain.Main(os.Args)
		return true
	case "kube-apiserver":
		command = apiserver.NewAPIServerCommand()
	case "kube-controller-manager":
		command = controllermanager.NewControllerManagerCommand()
	case "kube-scheduler":
		command = scheduler.NewSchedulerCommand()
	case "kubelet":
		command = kubelet.NewKubeletCommand(context.Background())
	case "kube-proxy":
		command = proxy.NewProxyCommand()
	default:
		return false
	}
	os.Exit(cli.Run(command))
	return true
}
