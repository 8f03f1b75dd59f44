package postgres_test

import (
	"bytes"
	"math"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"
)

// What is encoded in one go is what pgx encodes, and Postgres reads it.
func TestEncodeArrays(t *testing.T) {
	t.Parallel()
	conn := open(t, func(*pgxpool.Config) {}).Conn()
	at := func(year int, month time.Month, day int) time.Time {
		return time.Date(year, month, day, 0, 0, 0, 0, time.UTC)
	}
	uuid := pgtype.UUID{Bytes: [16]byte{1, 2, 15: 255}, Valid: true}
	for _, test := range []struct {
		oid   uint32
		value any
	}{
		{pgtype.Int8ArrayOID, []int64{0, -1, math.MaxInt64, math.MinInt64}},
		{pgtype.Int8ArrayOID, []int64{}},
		{pgtype.Int8ArrayOID, []int64(nil)},
		{pgtype.Int4ArrayOID, []int32{0, -1, math.MaxInt32, math.MinInt32}},
		{pgtype.Int4ArrayOID, []int64{7, -7}}, // left to pgx
		{pgtype.Int2ArrayOID, []int16{0, -1, math.MaxInt16, math.MinInt16}},
		{pgtype.UUIDArrayOID, []pgtype.UUID{uuid, {}, uuid}},
		{pgtype.UUIDArrayOID, []pgtype.UUID{{}}},
		{pgtype.UUIDArrayOID, []pgtype.UUID(nil)},
		{pgtype.TIDArrayOID, []pgtype.TID{{BlockNumber: math.MaxUint32 - 1, OffsetNumber: 291, Valid: true}, {}}},
		{pgtype.DateArrayOID, []pgtype.Date{
			{Time: at(2000, 1, 1), Valid: true}, {Time: at(1999, 12, 31), Valid: true}, {Time: at(2024, 2, 29), Valid: true}, {Time: at(1, 1, 1), Valid: true}, {},
			{InfinityModifier: pgtype.Infinity, Valid: true}, {InfinityModifier: pgtype.NegativeInfinity, Valid: true},
		}},
		{pgtype.TimestamptzArrayOID, []pgtype.Timestamptz{
			{Time: at(1999, 12, 31).Add(23*time.Hour + 1999*time.Nanosecond), Valid: true}, {Time: at(1, 1, 1), Valid: true},
			{Time: at(2025, 5, 1).In(time.FixedZone("", 9*60*60)).Add(999_999 * time.Microsecond), Valid: true}, {},
			{InfinityModifier: pgtype.Infinity, Valid: true}, {InfinityModifier: pgtype.NegativeInfinity, Valid: true},
		}},
	} {
		before := []byte("what is before it")
		want, err := pgtype.NewMap().Encode(test.oid, pgtype.BinaryFormatCode, test.value, bytes.Clone(before))
		if err != nil {
			t.Fatal(err)
		}
		got, err := conn.TypeMap().Encode(test.oid, pgtype.BinaryFormatCode, test.value, bytes.Clone(before))
		if err != nil || !bytes.Equal(got, want) || (got == nil) != (want == nil) {
			t.Errorf("%T %v: %v\n%x, want\n%x", test.value, test.value, err, got, want)
		}
	}
	var sum int64
	var nulls int
	var text string
	err := conn.QueryRow(t.Context(), `SELECT (SELECT sum(x) FROM unnest($1::bigint[]) x), (SELECT count(*) FROM unnest($2::uuid[]) x WHERE x IS NULL), $3::tid[]::text`,
		[]int64{1, 2, math.MinInt32}, []pgtype.UUID{uuid, {}}, []pgtype.TID{{BlockNumber: 7, OffsetNumber: 3, Valid: true}}).Scan(&sum, &nulls, &text)
	if err != nil || sum != 3+math.MinInt32 || nulls != 1 || text != `{"(7,3)"}` {
		t.Errorf("%v: %d %d %s", err, sum, nulls, text)
	}
}
