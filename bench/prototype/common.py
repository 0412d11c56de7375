import asyncio, os, time, uuid, uvloop, msgspec, asyncpg, nats, gc
class orjson: loads=msgspec.json.decode; dumps=msgspec.json.encode
DSN=os.environ["DSN"]; NATS=os.environ["NATS"]; PORT={n:int(os.environ[n+"_PORT"]) for n in ("API","SINK","SIM")}; CLIENTS=int(os.environ.get("CLIENTS","1"))
def client(n): return uuid.UUID(int=1+n%CLIENTS)
def uuid7():
    ms=time.time_ns()//1_000_000; r=int.from_bytes(os.urandom(10),'big')
    return uuid.UUID(int=(ms<<80)|(0x7<<76)|((r>>64&0xfff)<<64)|(0b10<<62)|(r&((1<<62)-1)))
class Batcher:
    def __init__(s,flush,max=500,lanes=1,linger=0): s.flush=flush;s.linger=linger;s.max=max;s.q=[];s.ev=asyncio.Event();s.n=s.k=0; s.t=[asyncio.create_task(s.run()) for _ in range(lanes)]
    def put(s,x): s.q.append((x,None)); s.ev.set()
    async def submit(s,x):
        f=asyncio.get_running_loop().create_future(); s.q.append((x,f)); s.ev.set(); return await f
    async def run(s):
        while True:
            await s.ev.wait()
            if s.linger: await asyncio.sleep(s.linger)
            s.ev.clear()
            b,s.q=s.q[:s.max],s.q[s.max:]
            if s.q: s.ev.set()
            if not b: continue
            s.n+=len(b); s.k+=1
            await s.flush([x for x,_ in b])
            for _,f in b:
                if f: f.set_result(None)
gc.freeze(); gc.set_threshold(50000,50,50)
