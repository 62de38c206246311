// The test workload: it serves, dials, looks up and prints, so that a test can see what a pod may do.
//
//	probe serve PORT        answer every HTTP request with this host's name and the path
//	probe dial HOST:PORT    exit 0 if a TCP connection opens within 2 s, else 1
//	probe get URL           print an answer's body; exit 0 for a status below 400
//	probe lookup NAME       print the addresses of a name
//	probe env               print the environment
//	probe id                print user and group id
//	probe sleep [SECONDS]   sleep that long, or until told to stop
//	probe pause             reap children until told to stop (sandbox image, and init of the node)
package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const timeout = 2 * time.Second

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "probe: must be told what to do: serve, dial, get, lookup, env, id, sleep or pause")
		os.Exit(2)
	}
	if err := run(os.Args[1], append(os.Args[2:], "")[0]); err != nil {
		fmt.Fprintln(os.Stderr, "probe:", err)
		os.Exit(1)
	}
}

func run(command, argument string) error {
	switch command {
	case "serve":
		return serve(argument)
	case "dial":
		connection, err := net.DialTimeout("tcp", argument, timeout)
		if err != nil {
			return err
		}
		return connection.Close()
	case "get":
		return get(argument)
	case "lookup":
		ctx, cancel := context.WithTimeout(context.Background(), timeout)
		defer cancel()
		addresses, err := net.DefaultResolver.LookupHost(ctx, argument)
		fmt.Println(strings.Join(addresses, "\n"))
		return err
	case "env":
		fmt.Println(strings.Join(os.Environ(), "\n"))
	case "id":
		fmt.Printf("uid=%d gid=%d\n", os.Getuid(), os.Getgid())
	case "sleep":
		return sleep(argument)
	case "pause":
		pause()
	default:
		return fmt.Errorf("no command `%s`", command)
	}
	return nil
}

func serve(port string) error {
	host, _ := os.Hostname()
	go func() {
		pause()
		os.Exit(0)
	}()
	return http.ListenAndServe(":"+port, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Printf("%s %s from %s\n", r.Method, r.URL.Path, r.RemoteAddr)
		fmt.Fprintf(w, "%s %s\n", host, r.URL.Path)
	}))
}

func get(url string) error {
	client := http.Client{Timeout: timeout}
	response, err := client.Get(url)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if _, err := io.Copy(os.Stdout, response.Body); err != nil {
		return err
	}
	if response.StatusCode >= 400 {
		return fmt.Errorf("%s", response.Status)
	}
	return nil
}

func sleep(seconds string) error {
	if seconds == "" {
		pause()
		return nil
	}
	count, err := strconv.Atoi(seconds)
	if err != nil {
		return err
	}
	time.Sleep(time.Duration(count) * time.Second)
	return nil
}

// pause returns at SIGINT or SIGTERM; until then it reaps every child, as process 1 has to.
func pause() {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGCHLD)
	for received := range signals {
		if received != syscall.SIGCHLD {
			return
		}
		for {
			if reaped, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); reaped <= 0 || err != nil {
				break
			}
		}
	}
}
