package rollup

import (
	"math"
	"time"

	"github.com/jackc/pgx/v5/pgtype"
)

// day is a date as the number of days since 1970-01-01.
type day int32

// noDay is the null date.
const noDay day = math.MinInt32

const secondsPerDay = 24 * 60 * 60

// dayAndHour returns the date and the hour of an instant in UTC, or noDay and 0 if it is not valid. For a time in another zone, as Postgres
// converts it, at is what the clock there shows.
func dayAndHour(at time.Time, valid bool) (date day, hour int16) {
	if !valid {
		return noDay, 0
	}
	seconds := at.Unix()
	days := seconds / secondsPerDay
	if seconds%secondsPerDay < 0 {
		days--
	}
	return day(days), int16((seconds - days*secondsPerDay) / (60 * 60)) //nolint:gosec // Postgres' times are within 300,000 years.
}

// microsecondsBetween is exact for what is not longer than bigint has microseconds, some 292,000 years. time.Time.Sub ends at 292.
func microsecondsBetween(start, end time.Time) int64 {
	return (end.Unix()-start.Unix())*1_000_000 + int64(end.Nanosecond()-start.Nanosecond())/1000
}

func isLongerThanBigint(start, end time.Time) bool {
	const longest = math.MaxInt64/1_000_000 - 1
	seconds := end.Unix() - start.Unix()
	return seconds > longest || seconds < -longest
}

// dayOf returns a date as Postgres has it; an infinite one is before or after all others.
func dayOf(date pgtype.Date) day {
	switch date.InfinityModifier {
	case pgtype.NegativeInfinity:
		return noDay
	case pgtype.Infinity:
		return math.MaxInt32
	default:
		d, _ := dayAndHour(date.Time, date.Valid)
		return d
	}
}

// date returns the day as Postgres takes it.
func (d day) date() pgtype.Date {
	if d == noDay {
		return pgtype.Date{}
	}
	return pgtype.Date{Time: time.Unix(int64(d)*secondsPerDay, 0).UTC(), Valid: true}
}
