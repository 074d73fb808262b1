"""The format read one element and one bit at a time: slow, plain, independent of the package."""

import math


def rank(value):
    """Order of magnitudes: NaN above infinity."""
    return (1, 0.0) if math.isnan(value) else (0, abs(value))


def kept_positions(group):
    order = sorted(range(4), key=lambda i: (tuple(-part for part in rank(group[i])), i))
    return sorted(order[:2])


def square_sum(values):
    if any(math.isnan(x) for x in values):
        return math.nan
    if any(math.isinf(x) for x in values):
        return math.inf
    return math.fsum(x * x for x in values)


def encode_one_by_one(dense, n, m, v):
    """Stored values, positions (pairs) per stored row, and indices, as nested lists."""
    rows, k = len(dense), len(dense[0])
    bands, blocks = math.ceil(rows / m), math.ceil(k / v)
    data = [[] for _ in range(bands * n)]
    pairs = [[] for _ in range(bands * n)]
    indices = [[] for _ in range(bands * n)]

    def at(row, column):
        return float(dense[row][column]) if row < rows and column < k else 0.0

    for band in range(bands):
        for block in range(blocks):
            sub_rows = []
            for place in range(m):
                values, chosen = [], []
                for group in range(v // 4):
                    first = block * v + 4 * group
                    four = [at(band * m + place, first + i) for i in range(4)]
                    pair = kept_positions(four)
                    chosen.append(tuple(pair))
                    values += [four[i] for i in pair]
                sub_rows.append((values, chosen))
            scores = [square_sum(values) for values, _ in sub_rows]
            best = sorted(range(m), key=lambda i: (tuple(-p for p in rank(scores[i])), i))[:n]
            for j, place in enumerate(sorted(best)):
                data[band * n + j] += sub_rows[place][0]
                pairs[band * n + j] += sub_rows[place][1]
                indices[band * n + j].append(place)
    return data, pairs, indices


def bit(word, i):
    return (int(word) >> i) & 1


def pair_of(w, row, group):
    """Positions of a group of a stored row, read bit by bit from the metadata words."""
    word = w.metadata[row][group // 8]
    base = 4 * (group % 8)
    first = bit(word, base) + 2 * bit(word, base + 1)
    second = bit(word, base + 2) + 2 * bit(word, base + 3)
    return first, second


def stored_row_of(w, output_row, block):
    """Stored row that holds this output row in this block, or None."""
    form = w.format
    band, place = divmod(output_row, form.m)
    if band >= math.ceil(w.shape[0] / form.m) or block >= math.ceil(w.shape[1] / form.v):
        return None
    for j in range(form.n):
        row = band * form.n + j
        if (j if w.indices is None else int(w.indices[row][block])) == place:
            return row
    return None
