package postgres

import (
	"context"
	"encoding/binary"
	"math"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

// EncodeArrays lets a connection encode arrays of some types in one go. It is an AfterConnect of a pool, and returns no error. pgx makes an object of each element, and lets the message grow element by
// element: for a batch of some thousand tasks that is most of the garbage.
//
// The form is the binary one that array_recv of Postgres reads.
func EncodeArrays(_ context.Context, conn *pgx.Conn) error {
	m := conn.TypeMap()
	register(m, pgtype.Int8ArrayOID, 8, func(b []byte, v int64) ([]byte, bool) {
		return binary.BigEndian.AppendUint64(b, uint64(v)), true //nolint:gosec // The same bits.
	})
	register(m, pgtype.Int4ArrayOID, 4, func(b []byte, v int32) ([]byte, bool) {
		return binary.BigEndian.AppendUint32(b, uint32(v)), true //nolint:gosec // The same bits.
	})
	register(m, pgtype.Int2ArrayOID, 2, func(b []byte, v int16) ([]byte, bool) {
		return binary.BigEndian.AppendUint16(b, uint16(v)), true //nolint:gosec // The same bits.
	})
	register(m, pgtype.UUIDArrayOID, 16, func(b []byte, v pgtype.UUID) ([]byte, bool) { return append(b, v.Bytes[:]...), v.Valid })
	register(m, pgtype.TIDArrayOID, 6, func(b []byte, v pgtype.TID) ([]byte, bool) {
		return binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint32(b, v.BlockNumber), v.OffsetNumber), v.Valid
	})
	register(m, pgtype.DateArrayOID, 4, func(b []byte, v pgtype.Date) ([]byte, bool) {
		return binary.BigEndian.AppendUint32(b, uint32(daysSince2000(v))), v.Valid //nolint:gosec // The same bits.
	})
	register(m, pgtype.TimestamptzArrayOID, 8, func(b []byte, v pgtype.Timestamptz) ([]byte, bool) {
		return binary.BigEndian.AppendUint64(b, uint64(microsecondsSince2000(v))), v.Valid //nolint:gosec // The same bits.
	})
	return nil
}

// year2000 is where Postgres counts days and microseconds from.
var year2000 = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

func daysSince2000(d pgtype.Date) int32 {
	switch d.InfinityModifier {
	case pgtype.Infinity:
		return math.MaxInt32
	case pgtype.NegativeInfinity:
		return math.MinInt32
	default:
		midnight := time.Date(d.Time.Year(), d.Time.Month(), d.Time.Day(), 0, 0, 0, 0, time.UTC)
		return int32((midnight.Unix() - year2000.Unix()) / (24 * 60 * 60)) //nolint:gosec // Years have less than 400 days, and Postgres some 6 million years.
	}
}

func microsecondsSince2000(t pgtype.Timestamptz) int64 {
	switch t.InfinityModifier {
	case pgtype.Infinity:
		return math.MaxInt64
	case pgtype.NegativeInfinity:
		return math.MinInt64
	default:
		return t.Time.UnixMicro() - year2000.UnixMicro()
	}
}

// register takes slices of T out of the hands of the codec that the map has for oid, whose elements take size bytes each. put appends one, and tells
// whether it is not null.
func register[T any](m *pgtype.Map, oid uint32, size int, put func([]byte, T) ([]byte, bool)) {
	t, ok := m.TypeForOID(oid)
	if !ok {
		return
	}
	codec, ok := t.Codec.(*pgtype.ArrayCodec)
	if !ok {
		return
	}
	fast := arrayPlan[T]{element: codec.ElementType.OID, size: size, put: put}
	m.RegisterType(&pgtype.Type{Name: t.Name, OID: oid, Codec: arrayCodec[T]{codec, fast}})
}

type arrayCodec[T any] struct {
	*pgtype.ArrayCodec
	fast arrayPlan[T]
}

// PlanEncode is called by pgx.
func (c arrayCodec[T]) PlanEncode(m *pgtype.Map, oid uint32, format int16, value any) pgtype.EncodePlan {
	if _, ok := value.([]T); ok && format == pgtype.BinaryFormatCode {
		return c.fast
	}
	return c.ArrayCodec.PlanEncode(m, oid, format, value)
}

type arrayPlan[T any] struct {
	element uint32 // its OID
	size    int
	put     func([]byte, T) ([]byte, bool)
}

const (
	// headerSize is that of an array: dimensions, whether there are nulls, the element's type, and length and first index of the dimension.
	headerSize = 5 * 4
	// lengthSize is what stands before each element.
	lengthSize = 4
	isNull     = math.MaxUint32 // a length of -1
)

// Encode is called by pgx. A nil slice is a null.
func (p arrayPlan[T]) Encode(value any, buf []byte) ([]byte, error) {
	values, _ := value.([]T)
	if values == nil {
		return nil, nil
	}
	if n := headerSize + len(values)*(lengthSize+p.size); cap(buf)-len(buf) < n {
		// Other parameters follow, mostly as many.
		buf = slices.Grow(buf, max(n, len(buf)))
	}
	nulls := len(buf) + 4
	buf = binary.BigEndian.AppendUint32(buf, 1)
	buf = binary.BigEndian.AppendUint32(buf, 0)
	buf = binary.BigEndian.AppendUint32(buf, p.element)
	buf = binary.BigEndian.AppendUint32(buf, uint32(len(values))) //nolint:gosec // Postgres takes no more.
	buf = binary.BigEndian.AppendUint32(buf, 1)
	for _, v := range values {
		buf = binary.BigEndian.AppendUint32(buf, uint32(p.size)) //nolint:gosec // Some bytes.
		there := len(buf)
		var ok bool
		if buf, ok = p.put(buf, v); !ok {
			buf = buf[:there]
			binary.BigEndian.PutUint32(buf[there-lengthSize:], isNull)
			binary.BigEndian.PutUint32(buf[nulls:], 1)
		}
	}
	return buf, nil
}
