// Command server is what Capstanfile.example builds: it serves the files of a
// directory, both named in /etc/server/*.conf, and greets at /hello.
package main

import (
	"fmt"
	"log"
	"net/http"
	"os"
	"path/filepath"
	"strings"
)

func main() {
	settings := map[string]string{}
	names, err := filepath.Glob("/etc/server/*.conf")
	if err != nil {
		log.Fatal(err)
	}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			log.Fatal(err)
		}
		key, value, _ := strings.Cut(strings.TrimSpace(string(text)), "=")
		settings[key] = value
	}
	http.Handle("/", http.FileServer(http.Dir(settings["root"])))
	http.HandleFunc("/hello", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, "%s, %s\n", os.Getenv("GREETING"), strings.Join(os.Args[1:], " "))
	})
	log.Printf("listening on %s", settings["listen"])
	log.Fatal(http.ListenAndServe(settings["listen"], nil))
}
