"""HEIC files written byte by byte: no package that is at hand encodes HEVC.

Each image is one HEVC picture of 16 x 16 blocks that hold their samples as they are (pcm_flag, ITU-T H.265, 7.3.8.5 and
7.3.8.7), so that a decoder gives exactly what was written. Colour is stored as 4:4:4 with the identity matrix, G, B, R.
"""

import struct

import numpy as np

BLOCK = 16
RANGE_LPS = (240, 227, 216, 205, 195, 185, 175, 166, 158, 150, 142, 135, 128, 122, 116, 110, 104, 99, 94, 89, 85, 80)
"""Table 9-46 for the quarter of the range that occurs here: one entry for each block that was coded before."""
VPS, SPS, PPS, IDR = 32, 33, 34, 19
BRANDS = (b"heic", b"mif1")


class Bits:
    """Bits that are written one after the other."""

    def __init__(self):
        self.bits = []

    def u(self, count, value):
        self.bits += [value >> i & 1 for i in reversed(range(count))]

    def ue(self, *values):
        """Exp-Golomb codes."""
        for value in values:
            length = (value + 1).bit_length()
            self.u(2 * length - 1, value + 1)

    def align(self):
        self.bits += [0] * (-len(self.bits) % 8)

    def done(self):
        """The bytes, after the stop bit."""
        self.u(1, 1)
        self.align()
        return self.bytes()

    def bytes(self):
        return np.packbits(self.bits).tobytes()


class Arithmetic:
    """The arithmetic encoder of 9.3.4 for the few bins of these blocks; it ends with each block."""

    def __init__(self, out):
        self.out, self.low, self.range, self.first, self.outstanding = out, 0, 510, True, 0

    def put(self, bit):
        if not self.first:
            self.out.bits += [bit]
        self.first = False
        self.out.bits += [1 - bit] * self.outstanding
        self.outstanding = 0

    def renormalise(self):
        while self.range < 256:
            if self.low < 256:
                self.put(0)
            elif self.low >= 512:
                self.low -= 512
                self.put(1)
            else:
                self.low -= 256
                self.outstanding += 1
            self.range, self.low = self.range * 2, self.low * 2

    def likely(self, state):
        """A bin with the likelier value of its context."""
        self.range -= RANGE_LPS[state]
        self.renormalise()

    def terminate(self, bit):
        """A bin that ends the arithmetic code if it is 1; the last bit then written is a 1."""
        self.range -= 2
        if not bit:
            self.renormalise()
            return
        self.low += self.range
        self.range = 2
        self.renormalise()
        self.put(self.low >> 9 & 1)
        self.out.u(2, self.low >> 7 & 3 | 1)


def unit(kind, content):
    """A NAL unit, with the bytes that keep start codes out of it."""
    escaped = bytearray()
    for byte in content:
        if byte <= 3 and escaped[-2:] == b"\0\0":
            escaped.append(3)
        escaped.append(byte)
    return bytes([kind << 1, 1]) + bytes(escaped)


def profile(out):
    out.u(8, 4)  # format range extensions
    out.u(32, 1 << 27)
    out.u(4, 0b1001)  # progressive frames
    out.u(44, 0)
    out.u(8, 90)


def parameter_sets(width, height, chroma, depth):
    vps = Bits()
    vps.u(16, 0b0000_1_1_000000_000_1)
    vps.u(16, 0xFFFF)
    profile(vps)
    vps.u(1, 1)
    vps.ue(0, 0, 0)
    vps.u(6, 0)
    vps.ue(0)
    vps.u(2, 0)
    sps = Bits()
    sps.u(8, 0b0000_000_1)
    profile(sps)
    sps.ue(0, chroma)
    if chroma == 3:
        sps.u(1, 0)
    beside, below = -width % BLOCK, -height % BLOCK
    sps.ue(width + beside, height + below)
    sps.u(1, 1)
    sps.ue(0, beside, 0, below)
    sps.ue(depth - 8, depth - 8, 0)
    sps.u(1, 1)
    sps.ue(0, 0, 0)
    sps.ue(1, 0, 0, 2, 0, 0)  # coding blocks of 16, transform blocks of 4 to 16
    sps.u(4, 0b0001)  # pcm_enabled_flag
    sps.u(8, (depth - 1) << 4 | depth - 1)
    sps.ue(1, 0)
    sps.u(1, 1)
    sps.ue(0)
    sps.u(5, 0)
    pps = Bits()
    pps.ue(0, 0)
    pps.u(7, 0)
    pps.ue(0, 0, 0)
    pps.u(3, 0)
    pps.ue(0, 0)
    pps.u(7, 0)
    pps.u(3, 0b101)  # no deblocking
    pps.u(2, 0)
    pps.ue(0)
    pps.u(2, 0)
    return [unit(VPS, vps.done()), unit(SPS, sps.done()), unit(PPS, pps.done())]


def picture(planes, depth):
    """The slice of planes [H, W] of samples."""
    out = Bits()
    out.u(2, 0b10)
    out.ue(0, 2, 0)
    out.u(1, 1)
    out.align()
    height, width = planes[0].shape
    planes = [np.pad(plane, ((0, -height % BLOCK), (0, -width % BLOCK))) for plane in planes]
    corners = [(y, x) for y in range(0, height, BLOCK) for x in range(0, width, BLOCK)]
    for number, (y, x) in enumerate(corners):
        code = Arithmetic(out)
        if number:
            code.terminate(0)  # the slice has not ended with the last block
        code.likely(number)  # part_mode: the whole block
        code.terminate(1)  # pcm_flag
        out.align()
        for plane in planes:
            for sample in plane[y : y + BLOCK, x : x + BLOCK].ravel().tolist():
                out.u(depth, sample)
    Arithmetic(out).terminate(1)
    out.align()
    return unit(IDR, out.bytes())


def box(kind, *content):
    content = b"".join(content)
    return struct.pack(">I", 8 + len(content)) + kind + content


def full(kind, *content, version=0, flags=0):
    return box(kind, struct.pack(">I", version << 24 | flags), *content)


def codec(sets, chroma, depth):
    """The box hvcC with parameter sets."""
    bits, colours = 0xF8 | depth - 8, 0xFC | chroma
    head = struct.pack(">BBIHIBHBB", 1, 4, 1 << 27, 0x9000, 0, 90, 0xF000, 0xFC, colours)
    head += struct.pack(">BBHBB", bits, bits, 0, 0x0F, len(sets))
    return box(b"hvcC", head, *(struct.pack(">BHH", 0x80 | each[0] >> 1, 1, len(each)) + each for each in sets))


class Container:
    """Items with their properties and references, and the file of them."""

    def __init__(self):
        self.items, self.places, self.boxes, self.links, self.references, self.data = [], [], [], [], [], b""

    def add(self, kind, content, properties=(), *, hidden=False):
        """Add an item and return its number."""
        number = len(self.items) + 1
        head = struct.pack(">HH4sB", number, 0, kind, 0)
        self.items.append(full(b"infe", head, version=2, flags=int(hidden)))
        self.places.append((number, len(self.data), len(content)))
        self.data += content
        first = len(self.boxes) + 1
        self.boxes += properties
        if properties:
            last = len(self.boxes) + 1
            self.links.append(struct.pack(">HB", number, last - first) + bytes(range(first, last)))
        return number

    def add_picture(self, image, depth, properties=(), *, said_size=None, hidden=False):
        """Add an image [H, W] or [H, W, 3] and return its number."""
        grey = image.ndim == 2
        planes = [image] if grey else [image[..., 1], image[..., 2], image[..., 0]]
        height, width = image.shape[:2]
        chroma = 0 if grey else 3
        sets = parameter_sets(width, height, chroma, depth)
        height, width = said_size or (height, width)
        own = [codec(sets, chroma, depth), full(b"ispe", struct.pack(">II", width, height))]
        own.append(box(b"colr", b"nclx", struct.pack(">HHHB", 1, 13, 1 if grey else 0, 0x80)))
        content = picture(planes, depth)
        content = struct.pack(">I", len(content)) + content
        return self.add(b"hvc1", content, [*own, *properties], hidden=hidden)

    def refer(self, kind, number, others):
        self.references.append(box(kind, struct.pack(f">HH{len(others)}H", number, len(others), *others)))

    def file(self, primary, brands):
        def meta(start):
            places = [struct.pack(">HHHII", number, 0, 1, start + at, size) for number, at, size in self.places]
            return full(
                b"meta",
                full(b"hdlr", struct.pack(">I4s12xB", 0, b"pict", 0)),
                full(b"pitm", struct.pack(">H", primary)),
                full(b"iloc", struct.pack(">HH", 0x4400, len(places)), *places),
                full(b"iinf", struct.pack(">H", len(self.items)), *self.items),
                full(b"iref", *self.references) if self.references else b"",
                box(
                    b"iprp",
                    box(b"ipco", *self.boxes),
                    full(b"ipma", struct.pack(">I", len(self.links)), *self.links),
                ),
            )

        start = box(b"ftyp", brands[0], bytes(4), *brands)
        return start + meta(len(start) + len(meta(0)) + 8) + box(b"mdat", self.data)


def heic(*images, primary=0, depth=8, properties=(), exif=None, alpha=None, icc=None, said_size=None, brands=BRANDS):
    """The content of a HEIC file of images [H, W] or [H, W, 3].

    primary: index of the primary image. properties: boxes that say how images are rotated and mirrored. exif: content
    of the EXIF, from its byte order on. alpha: opacity [H, W]. icc: a profile. said_size: height and width that the
    container says in place of the true ones.
    """
    made = Container()
    profiles = [box(b"colr", b"prof", icc)] if icc else []
    numbers = [
        made.add_picture(np.asarray(image), depth, [*profiles, *properties], said_size=said_size) for image in images
    ]
    if exif is not None:
        made.refer(b"cdsc", made.add(b"Exif", bytes(4) + exif), numbers)
    if alpha is not None:
        kind = full(b"auxC", b"urn:mpeg:hevc:2015:auxid:1\0")
        made.refer(b"auxl", made.add_picture(alpha, 8, [kind], hidden=True), numbers)
    return made.file(numbers[primary], brands)


def tiled(image, side, properties=(), *, before=()):
    """The content of a HEIC file of an image [H, W, 3] in square tiles, as iPhones write them.

    before: further images whose content is before that of the tiles.
    """
    made = Container()
    for other in before:
        made.add_picture(other, 8)
    height, width = image.shape[:2]
    corners = [(y, x) for y in range(0, height, side) for x in range(0, width, side)]
    tiles = [made.add_picture(image[y : y + side, x : x + side], 8, hidden=True) for y, x in corners]
    grid = struct.pack(">BBBBHH", 0, 0, height // side - 1, width // side - 1, width, height)
    size = full(b"ispe", struct.pack(">II", width, height))
    number = made.add(b"grid", grid, [size, *properties])
    made.refer(b"dimg", number, tiles)
    return made.file(number, BRANDS)
