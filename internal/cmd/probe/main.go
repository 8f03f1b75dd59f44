// Command probe asks a URL and fails unless the answer is 200. The image has no other program that could.
package main

import (
	"fmt"
	"net/http"
	"os"
	"time"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: probe URL")
		os.Exit(2)
	}
	response, err := (&http.Client{Timeout: 5 * time.Second}).Get(os.Args[1])
	if err != nil {
		fmt.Fprintf(os.Stderr, "probe: %v\n", err)
		os.Exit(1)
	}
	response.Body.Close() //nolint:errcheck // Only the status is of interest.
	fmt.Println(response.Status)
	if response.StatusCode != http.StatusOK {
		os.Exit(1)
	}
}
