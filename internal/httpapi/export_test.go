package httpapi

// StatusOf is statusOf, for tests.
func StatusOf(err error) (status int, message string) {
	e := statusOf(err)
	return e.status, e.message
}
