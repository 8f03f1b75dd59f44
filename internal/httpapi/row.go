package httpapi

import (
	"bytes"
	"encoding/csv"
	"encoding/hex"
	"encoding/json"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgtype"
)

// A rowWriter writes the rows of an answer. Each row names its fields in order, and the same naming makes all formats.
type rowWriter interface {
	id(name string, v pgtype.UUID)
	date(name string, v pgtype.Date)
	text(name, v string)
	number(name string, v int64)
	// end ends a row.
	end()
}

// jsonRows appends rows to a JSON array of objects. An answer has hundreds of rows, so it appends bytes, where encoding/json
// would look at every field through reflection.
type jsonRows struct {
	buf   []byte
	rows  int
	inRow bool
}

func (w *jsonRows) name(name string) {
	switch {
	case w.inRow:
		w.buf = append(w.buf, ',')
	case w.rows > 0:
		w.buf = append(w.buf, ",{"...)
	default:
		w.buf = append(w.buf, "[{"...)
	}
	w.inRow = true
	w.buf = append(w.buf, '"')
	w.buf = append(w.buf, name...)
	w.buf = append(w.buf, `":`...)
}

func (w *jsonRows) id(name string, v pgtype.UUID) {
	w.name(name)
	w.buf = append(w.buf, '"')
	w.buf = appendUUID(w.buf, v)
	w.buf = append(w.buf, '"')
}

func (w *jsonRows) date(name string, v pgtype.Date) {
	w.name(name)
	w.buf = append(w.buf, '"')
	w.buf = v.Time.AppendFormat(w.buf, time.DateOnly)
	w.buf = append(w.buf, '"')
}

func (w *jsonRows) text(name, v string) {
	w.name(name)
	w.buf = appendString(w.buf, v)
}

func (w *jsonRows) number(name string, v int64) {
	w.name(name)
	w.buf = strconv.AppendInt(w.buf, v, 10)
}

func (w *jsonRows) optionalID(name string, v pgtype.UUID) {
	if v.Valid {
		w.id(name, v)
	} else {
		w.raw(name, "null")
	}
}

func (w *jsonRows) optionalText(name string, v pgtype.Text) {
	if v.Valid {
		w.text(name, v.String)
	} else {
		w.raw(name, "null")
	}
}

// time writes an instant as RFC 3339 in UTC, to the second; null if there is none.
func (w *jsonRows) time(name string, v pgtype.Timestamptz) {
	if !v.Valid || v.InfinityModifier != pgtype.Finite {
		w.raw(name, "null")
		return
	}
	w.name(name)
	w.buf = append(w.buf, '"')
	w.buf = v.Time.UTC().AppendFormat(w.buf, time.RFC3339)
	w.buf = append(w.buf, '"')
}

func (w *jsonRows) bool(name string, v bool) { w.raw(name, strconv.FormatBool(v)) }

// json writes what is JSON already, without spaces.
func (w *jsonRows) json(name string, v []byte) {
	w.name(name)
	out := bytes.NewBuffer(w.buf)
	if json.Compact(out, v) != nil { // Postgres does not make such. Compact has taken back what it wrote.
		out.WriteString("null")
	}
	w.buf = out.Bytes()
}

// raw writes what is JSON already.
func (w *jsonRows) raw(name, v string) {
	w.name(name)
	w.buf = append(w.buf, v...)
}

func (w *jsonRows) end() {
	w.buf = append(w.buf, '}')
	w.rows++
	w.inRow = false
}

// body returns the array.
func (w *jsonRows) body() []byte {
	if w.rows == 0 {
		return []byte("[]\n")
	}
	w.buf = append(w.buf, "]\n"...)
	return w.buf
}

// object returns the one row.
func (w *jsonRows) object() []byte { return append(w.buf[1:], '\n') }

// appendString appends a JSON string. What needs no escape, as nearly all names of models, is copied.
func appendString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			quoted, _ := json.Marshal(s) //nolint:errchkjson // A string can always be encoded.
			return append(b, quoted...)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}

func appendUUID(b []byte, v pgtype.UUID) []byte {
	b = hex.AppendEncode(b, v.Bytes[:4])
	for _, part := range [][]byte{v.Bytes[4:6], v.Bytes[6:8], v.Bytes[8:10], v.Bytes[10:]} {
		b = append(b, '-')
		b = hex.AppendEncode(b, part)
	}
	return b
}

// csvRows writes rows as CSV (RFC 4180) after a header with the names.
type csvRows struct {
	out    bytes.Buffer
	csv    *csv.Writer
	header bool // only the names are written
	record []string
}

// newCSVRows writes the header. Name is called for one row, whose values do not matter.
func newCSVRows(name func(rowWriter)) *csvRows {
	w := &csvRows{header: true}
	w.csv = csv.NewWriter(&w.out)
	name(w)
	w.header = false
	return w
}

func (w *csvRows) add(name, value string) {
	if w.header {
		value = name
	}
	w.record = append(w.record, value)
}

func (w *csvRows) id(name string, v pgtype.UUID)   { w.add(name, string(appendUUID(nil, v))) }
func (w *csvRows) date(name string, v pgtype.Date) { w.add(name, v.Time.Format(time.DateOnly)) }
func (w *csvRows) text(name, v string)             { w.add(name, v) }
func (w *csvRows) number(name string, v int64)     { w.add(name, strconv.FormatInt(v, 10)) }

func (w *csvRows) end() {
	w.csv.Write(w.record) //nolint:errcheck // A buffer takes everything.
	w.csv.Flush()
	// The writer's own UseCRLF would change line breaks in values too.
	w.out.Truncate(w.out.Len() - len("\n"))
	w.out.WriteString("\r\n")
	w.record = w.record[:0]
}

func (w *csvRows) body() []byte { return w.out.Bytes() }
