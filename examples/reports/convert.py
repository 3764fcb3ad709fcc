"""Makes ``reports/data/earth-rotation.csv.gz`` from the Naval Observatory's table; needed only to bring it up to date.

pip download --no-deps astropy-iers-data && unzip astropy_iers_data-*.whl
python convert.py astropy_iers_data/data/finals2000A.all
"""

from __future__ import annotations

import argparse
import gzip
import io
from datetime import date, timedelta
from pathlib import Path

TARGET = Path(__file__).parent / "reports" / "data" / "earth-rotation.csv.gz"
HEADER = "date,x_arcsec,x_error,y_arcsec,y_error,ut1_utc_s,ut1_utc_error,lod_ms,lod_error"
_MJD_ZERO = date(1858, 11, 17)
_MEASURED = "I"  # "P" marks a prediction


def convert(lines: list[str]) -> list[str]:
    """Return one CSV row for each day with every value measured (bytes as in the table's own ReadMe, 1-based).

    The table's first day is left out: with no day before it, its length stands there as 0.
    """
    rows = [HEADER]
    for line in lines[1:]:
        values = [line[start - 1 : end].strip() for start, end in _FIELDS]
        if line[16] == line[57] == _MEASURED and all(values):
            day = _MJD_ZERO + timedelta(days=int(float(line[7:15])))
            rows.append(",".join([day.isoformat(), *values]))
    return rows


_FIELDS = ((19, 27), (28, 36), (38, 46), (47, 55), (59, 68), (69, 78), (80, 86), (87, 93))


def main() -> None:
    """Convert the table named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path, help="finals2000A.all")
    rows = convert(parser.parse_args().table.read_text("ascii").splitlines())
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0) as packed:
        packed.write(("\n".join(rows) + "\n").encode())
    TARGET.write_bytes(buffer.getvalue())
    print(f"{TARGET}: {len(rows) - 1} days, {rows[1][:10]} to {rows[-1][:10]}, {len(buffer.getvalue())} bytes")


if __name__ == "__main__":
    main()
