// SPDX-License-Identifier: Apache-2.0

package faults_test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"sync"
	"testing"

	"k8s.io/klog/v2"
	"k8s.io/klog/v2/textlogger"
)

const (
	editKey  = "hmac-of-the-editor-5f1c"
	token    = "bootstrap-token-9d27"
	userData = "#cloud-config\n# " + token + "\n"
)

// secrets are looked for wherever the servers write or answer something.
type secrets struct {
	needles [][]byte

	mu    sync.Mutex
	found []string
}

// everySecret watches over all histories: logs are the process's.
var everySecret = newSecrets()

func newSecrets() *secrets {
	encoded := base64.StdEncoding.EncodeToString([]byte(userData))
	return &secrets{needles: [][]byte{[]byte(editKey), []byte(token), []byte(encoded[:24])}}
}

// search looks for secrets in what was written somewhere.
func (s *secrets) search(where string, text []byte) {
	for _, needle := range s.needles {
		if bytes.Contains(text, needle) {
			s.mu.Lock()
			s.found = append(s.found, fmt.Sprintf("%s: %.300s", where, text))
			s.mu.Unlock()
			return
		}
	}
}

// Write searches a line of the log.
func (s *secrets) Write(line []byte) (int, error) {
	s.search("a line of the log", line)
	return len(line), nil
}

// complaints are what was found; each is reported once.
func (s *secrets) complaints() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	found := s.found
	s.found = nil
	return found
}

// logVerbosity is more than what a server is run with.
const logVerbosity = 4

func searchLogs() {
	klog.SetLogger(textlogger.NewLogger(textlogger.NewConfig(textlogger.Output(everySecret), textlogger.Verbosity(logVerbosity))))
}

func TestInvariants_FindSecrets(t *testing.T) {
	for _, text := range []string{"x " + editKey, userData, base64.StdEncoding.EncodeToString([]byte(userData))} {
		s := newSecrets()
		if _, err := fmt.Fprintln(s, text); err != nil || len(s.complaints()) != 1 {
			t.Errorf("%q was not found", text)
		}
	}
}
