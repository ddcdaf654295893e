"""What the last label of a dotted word says: a file, or a host. Pure data; knows no text."""

_FILES = (
    "py pyc ipynb csv tsv json jsonl txt md rst sh yaml yml toml cfg ini log lock gz tgz zip tar bz2 xz parquet arrow "
    "html htm xml css js ts jsx tsx so dll pt pth bin safetensors onnx h5 npz npy pkl c h cpp hpp cu rs go java png "
    "jpg jpeg gif svg pdf mp3 mp4 wav webp whl db sqlite out err tmp bak"
)
FILES = frozenset(_FILES.split())
"""Endings with which a dotted word is a file: only inside a URL it is a host."""

_COMMON = (
    "com org net edu gov mil int info biz name pro mobi coop museum aero jobs travel tel asia arpa app dev page ai xyz "
    "top site online store shop tech cloud space website live club fun icu vip work world today life link click win "
    "host press agency digital studio science email network systems solutions run pub wiki blog news media art design "
    "bot buzz cam zone team group academy codes tools chat example test invalid local localhost internal lan onion"
)
_COUNTRIES = (
    "ac ad ae af ag al am ao aq ar as at au aw ax az ba bb bd be bf bg bh bi bj bm bn bo br bs bt bv bw by bz ca cc cd "
    "cf cg ch ci ck cl cm cn co cr cu cv cw cx cy cz de dj dk dm do dz ec ee eg er es et eu fi fj fk fm fo fr ga gb gd "
    "ge gf gg gh gi gl gm gn gp gq gr gs gt gu gw gy hk hm hn hr ht hu id ie il im in io iq ir is it je jm jo jp ke kg "
    "kh ki km kn kp kr kw ky kz la lb lc li lk lr ls lt lu lv ly ma mc md me mg mh mk ml mm mn mo mp mq mr ms mt mu mv "
    "mw mx my mz na nc ne nf ng ni nl no np nr nu nz om pa pe pf pg ph pk pl pm pn pr ps pt pw py qa re ro rs ru rw sa "
    "sb sc sd se sg sh si sj sk sl sm sn so sr ss st su sv sx sy sz tc td tf tg th tj tk tl tm tn to tr tt tv tw tz ua "
    "ug uk us uy uz va vc ve vg vi vn vu wf ws ye yt za zm zw"
)
HOSTS = frozenset([*_COMMON.split(), *_COUNTRIES.split()]) - FILES
"""Endings with which a dotted word of a text is a host, also outside a URL: common ones and those of countries. Code is
full of dotted words (`torch.nn`, `self.x`), which must not fill the record's places nor take its time.
"""
