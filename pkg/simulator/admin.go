// SPDX-License-Identifier: Apache-2.0

package simulator

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// adminHelp is what GET / answers.
const adminHelp = `metal-api simulator: operations on the data centre

  curl -s HOST/machines                                             every machine, one a line (?allocated=true, ?project=ID)
  curl -X POST HOST/machines/ID/crash                               its operating system crashes, and crashes again
  curl -X POST HOST/machines/ID/silence                             no more events: Dead or Unknown after five minutes
  curl -X POST HOST/machines/ID/hang                                silent, with power: comes back by a power cycle, or off and on
  curl -X POST HOST/machines/ID/wake                                undoes crash, silence and hang, and switches on
  curl -X POST HOST/machines/ID/report-power                        metal-bmc reports its power state, which it does every few minutes
  curl -X POST HOST/machines/ID/lock    -d '{"description":"why"}'  LOCKED: cannot be freed
  curl -X POST HOST/machines/ID/reserve -d '{"description":"why"}'  RESERVED: not handed out by size
  curl -X POST HOST/machines/ID/unlock
  curl -X POST HOST/machines/ID/free                                as metalctl machine rm does
  curl -X POST HOST/machines/ID/tags    -d '{"tags":["a=b"]}'
  curl -X POST HOST/machines/ID/event   -d '{"event":"Phoned Home","message":""}'
  curl -X POST HOST/machines/ID/phone-home                          gets through its installation at once
  curl -X POST HOST/machines/ID/recycle                             boots into the pool at once
  curl -X POST HOST/machines/ID/drop-events                         loses its event container: GET answers 404
  curl -X POST HOST/images/ID/expire    -d '{"in":"480h"}'          when it expires: metal-stack installs it all the same
  curl -X POST HOST/reservations        -d '{"project":"ID","partition":"fra-01","size":"c1-large-x86","amount":2}'
  curl -X POST HOST/machines/allocate   -d '{"project":"ID","partition":"fra-01","size":"v1-small-x86","name":"x","networks":["ID"]}'

  curl -s HOST/endpoints                                            names that faults may use, and the phases of calls
  curl -s HOST/faults
  curl -X POST HOST/faults -d '{"endpoint":"machine-allocate","kind":"commit-then-lose","times":1}'
  curl -X POST HOST/faults -d '{"endpoint":"*","kind":"latency","latency":"2s"}'
  curl -X POST HOST/faults -d '{"endpoint":"machine-*","kind":"status","status":503,"message":"down"}'
  curl -X POST HOST/faults -d '{"kind":"backend-down","backend":"rethinkdb"}'
  curl -X POST HOST/faults -d '{"endpoint":"machine-list","kind":"truncated-list","fraction":0.5}'
  curl -X POST HOST/faults -d '{"endpoint":"machine-allocate","kind":"client-gone","phase":"candidate","times":1}'
  curl -X DELETE HOST/faults/1                                      and HOST/faults for all
  curl -X POST 'HOST/stop-answering?for=30s'                        every call hangs; without for, until the fault is deleted

  curl -s HOST/inventory                                                what is allocated in which project, and every allocation and free
  curl -s HOST/calls                                                calls and simulated busy time by endpoint; DELETE resets
  curl -X POST 'HOST/costs?on=true'                                 answers take as long as a real metal-api's, or not
  curl -X POST 'HOST/costs?on=true&times=100'                       or a hundred times as long, as if it was busy
`

// AdminHandler serves faults, events and the inventory, as JSON. GET /
// lists the paths. It asks for no credential: serve it on loopback only.
func (s *Simulator) AdminHandler() http.Handler {
	a := &admin{s: s}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = io.WriteString(w, strings.ReplaceAll(adminHelp, "HOST", "http://"+r.Host))
	})
	mux.HandleFunc("GET /machines", a.machines)
	mux.HandleFunc("POST /machines/allocate", a.allocate)
	mux.HandleFunc("POST /machines/{id}/{verb}", a.machine)
	mux.HandleFunc("POST /images/{id}/expire", a.expireImage)
	mux.HandleFunc("POST /reservations", a.reserveSize)
	mux.HandleFunc("GET /endpoints", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, map[string]any{"endpoints": s.Endpoints(), "phases": Phases}, nil)
	})
	mux.HandleFunc("GET /faults", func(w http.ResponseWriter, _ *http.Request) { reply(w, s.Faults(), nil) })
	mux.HandleFunc("POST /faults", a.inject)
	mux.HandleFunc("DELETE /faults", func(w http.ResponseWriter, _ *http.Request) {
		for _, f := range s.Faults() {
			s.RemoveFault(f.ID)
		}
		reply(w, s.Faults(), nil)
	})
	mux.HandleFunc("DELETE /faults/{id}", a.remove)
	mux.HandleFunc("POST /stop-answering", a.stopAnswering)
	mux.HandleFunc("GET /inventory", func(w http.ResponseWriter, _ *http.Request) { reply(w, s.Inventory(), nil) })
	mux.HandleFunc("GET /calls", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, map[string]any{"calls": s.Calls(), "busySeconds": s.BusyTime().Seconds()}, nil)
	})
	mux.HandleFunc("DELETE /calls", func(w http.ResponseWriter, _ *http.Request) {
		s.ResetCalls()
		reply(w, s.Calls(), nil)
	})
	mux.HandleFunc("POST /costs", func(w http.ResponseWriter, r *http.Request) {
		on, err := strconv.ParseBool(r.URL.Query().Get("on"))
		times := 1.0
		if given := r.URL.Query().Get("times"); err == nil && given != "" {
			times, err = strconv.ParseFloat(given, 64)
		}
		if err == nil {
			s.SetCosts(on)
			s.SetSlowdown(times)
		}
		reply(w, map[string]any{"costs": on, "times": times}, err)
	})
	return mux
}

// NumberedFault is an injected fault with the number that removes it.
type NumberedFault struct {
	ID int `json:"id"`
	Fault
}

// Faults returns the faults that are injected now.
func (s *Simulator) Faults() []NumberedFault {
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	l := []NumberedFault{}
	for _, f := range s.faults.active {
		l = append(l, NumberedFault{f.id, f.Fault})
	}
	return l
}

// RemoveFault ends a fault by its number; false if it is not there any more.
func (s *Simulator) RemoveFault(id int) bool { return s.faults.remove(id) }

type admin struct {
	s *Simulator
}

func (a *admin) machines(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	q := r.URL.Query()
	for _, m := range a.s.Inventory().Machines {
		if q.Get("allocated") == "true" && !m.Allocated || q.Get("project") != "" && m.Project != q.Get("project") {
			continue
		}
		_, _ = fmt.Fprintf(w, "%s %-8s %-14s %-14s %-8s %-8s %-18s %s %s\n",
			m.ID, m.Partition, m.Rack, m.Size, or(m.Liveliness, "-"), or(m.State, "-"), or(m.LastEvent, "-"), or(m.Project, "-"), m.Name)
	}
}

func (a *admin) machine(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Description string   `json:"description"`
		Tags        []string `json:"tags"`
		Event       string   `json:"event"`
		Message     string   `json:"message"`
	}
	if err := read(r, &body); err != nil {
		reply(w, nil, err)
		return
	}
	id := r.PathValue("id")
	verbs := map[string]func() error{
		"crash":        func() error { return a.s.Crash(id) },
		"silence":      func() error { return a.s.Silence(id) },
		"hang":         func() error { return a.s.Hang(id) },
		"wake":         func() error { return a.s.Wake(id) },
		"lock":         func() error { return a.s.Lock(id, body.Description) },
		"reserve":      func() error { return a.s.Reserve(id, body.Description) },
		"unlock":       func() error { return a.s.Unlock(id) },
		"free":         func() error { return a.s.ForceFree(id) },
		"tags":         func() error { return a.s.SetTags(id, body.Tags) },
		"event":        func() error { return a.s.SendEvent(id, body.Event, body.Message) },
		"phone-home":   func() error { return a.s.PhoneHome(id) },
		"report-power": func() error { return a.s.ReportPower(id) },
		"recycle":      func() error { return a.s.Recycle(id) },
		"drop-events":  func() error { return a.s.DropEventContainer(id) },
	}
	do, ok := verbs[r.PathValue("verb")]
	if !ok {
		reply(w, nil, fmt.Errorf("no such verb: %s", r.PathValue("verb")))
		return
	}
	if err := do(); err != nil {
		reply(w, nil, err)
		return
	}
	m, _ := a.s.Inventory().Machine(id)
	reply(w, m, nil)
}

func (a *admin) allocate(w http.ResponseWriter, r *http.Request) {
	var req AllocateRequest
	if err := read(r, &req); err != nil {
		reply(w, nil, err)
		return
	}
	id, err := a.s.AllocateFor(req)
	m, _ := a.s.Inventory().Machine(id)
	reply(w, m, err)
}

func (a *admin) expireImage(w http.ResponseWriter, r *http.Request) {
	var body struct {
		In jsonDuration `json:"in"`
	}
	err := read(r, &body)
	at := a.s.instant().Add(time.Duration(body.In))
	if err == nil {
		err = a.s.ExpireImage(r.PathValue("id"), at)
	}
	reply(w, map[string]time.Time{"expires": at}, err)
}

func (a *admin) reserveSize(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Project   string `json:"project"`
		Partition string `json:"partition"`
		Size      string `json:"size"`
		Amount    int    `json:"amount"`
	}
	err := read(r, &body)
	id := ""
	if err == nil {
		id, err = a.s.ReserveSize(body.Project, body.Size, body.Partition, body.Amount)
	}
	reply(w, map[string]string{"id": id}, err)
}

func (a *admin) inject(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Fault
		Latency jsonDuration `json:"latency"`
	}
	if err := read(r, &body); err != nil {
		reply(w, nil, err)
		return
	}
	f := body.Fault
	f.Latency = time.Duration(body.Latency)
	if !knownKinds[f.Kind] {
		reply(w, nil, fmt.Errorf("no such kind of fault: %q", f.Kind))
		return
	}
	id, _ := a.s.faults.add(f)
	reply(w, NumberedFault{id, f}, nil)
}

func (a *admin) remove(w http.ResponseWriter, r *http.Request) {
	id, err := strconv.Atoi(r.PathValue("id"))
	if err == nil && !a.s.RemoveFault(id) {
		err = fmt.Errorf("no fault %d", id)
	}
	reply(w, a.s.Faults(), err)
}

func (a *admin) stopAnswering(w http.ResponseWriter, r *http.Request) {
	id, resume := a.s.faults.add(Fault{Endpoint: "*", Kind: FaultHang})
	if v := r.URL.Query().Get("for"); v != "" {
		d, err := time.ParseDuration(v)
		if err != nil {
			resume()
			reply(w, nil, err)
			return
		}
		var once sync.Once
		go func() {
			a.s.sleep(d)
			once.Do(resume)
		}()
	}
	reply(w, map[string]int{"fault": id}, nil)
}

// jsonDuration reads "2s" and nanoseconds.
type jsonDuration time.Duration

func (d *jsonDuration) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err == nil {
		v, err := time.ParseDuration(s)
		*d = jsonDuration(v)
		return err
	}
	return json.Unmarshal(b, (*int64)(d))
}

func read(r *http.Request, v any) error {
	if err := json.NewDecoder(r.Body).Decode(v); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

func reply(w http.ResponseWriter, v any, err error) {
	w.Header().Set("Content-Type", "application/json")
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		v = map[string]string{"error": err.Error()}
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	_ = enc.Encode(v)
}
