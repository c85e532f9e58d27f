err-usage-text-too-long = el texto supera los 60 000 bytes; envíelo como archivo
err-usage-text-empty = el texto está vacío
err-usage-name-too-long = el nombre o la etiqueta supera los 200 bytes
err-usage-document-too-large = el documento supera los 16 GiB
err-usage-not-a-file = esto no es un archivo normal
err-usage-no-relay = esta bóveda no conoce ningún relé
err-usage-days = el número de días debe estar entre 1 y 365
err-usage-ambiguous = esto coincide con más de uno; escriba una parte mayor
err-usage-own-invite = esta invitación es la suya propia
err-usage-case-ended = ya no se puede escribir en este caso
do-usage = No se ha hecho nada. `martlet help` explica cómo escribir la orden.

err-bad-link = no se puede leer la invitación o el enlace: { $detail }
do-bad-link = Copie otra vez todo el texto, desde `martlet:` hasta el final. Los espacios y las mayúsculas no importan.
err-no-vault = aquí no hay ninguna bóveda
do-no-vault = Cree una con `martlet init`, o indique dónde está con `--home`.
err-vault-exists = aquí ya hay una bóveda
do-vault-exists = No se ha cambiado nada. Úsela tal como está, o elija otra carpeta con `--home`.
err-vault-busy = otro programa está usando la bóveda
do-vault-busy = Espere a que termine el otro martlet y vuelva a intentarlo. No se ha perdido nada.
err-wrong-passphrase = la frase de contraseña no abre la bóveda
do-wrong-passphrase = Inténtelo de nuevo; las mayúsculas y los espacios cuentan. Nadie puede restablecer una frase de contraseña.
err-vault-damaged = la bóveda está dañada: { $detail }
do-vault-damaged = No la borre. Copie la carpeta a un lugar seguro y después pida ayuda.
err-vault-rolled-back = la bóveda es una copia antigua de sí misma
do-vault-rolled-back = No escriba desde esta copia. Use la más reciente, o empiece de nuevo con una bóveda y una invitación nuevas.
err-disk-full = el disco está lleno
do-disk-full = Libere espacio en este dispositivo y ejecute la orden otra vez. Lo que estaba guardado está a salvo.
err-file = no se puede usar un archivo: { $detail }
do-file = Compruebe que el archivo o la carpeta existe y que usted puede usarlo, y vuelva a intentarlo.

err-unreachable = no se puede contactar con el relé
do-unreachable = No se ha perdido nada. Compruebe la conexión a Internet y después ejecute `martlet sync`.

err-wrong-pin = la clave del relé no es la esperada; no se ha enviado nada
do-wrong-pin = Puede que alguien esté en medio. No siga adelante; pruebe otra red, o pida un enlace nuevo.
err-wrong-card-hash = la huella de la tarjeta no es la de la invitación; no se ha enviado nada
err-wrong-card-signature = la firma de la tarjeta no es correcta; no se ha enviado nada
err-wrong-card-package = un paquete de claves de la tarjeta pertenece a otra persona; no se ha enviado nada
do-wrong-card = Puede que no sea la persona que usted cree. Pídale, de viva voz o en persona, una invitación nueva.
err-wrong-document = el documento no es el que dice su carta
do-wrong-document = El documento no se ha guardado. Pida a quien lo envió que lo envíe otra vez.

err-expired = el relé ya no tiene el documento
do-expired = Pida a quien envió el documento que lo envíe otra vez.
err-invite-expired = la invitación ha caducado o fue retirada
do-invite-expired = Pida una invitación nueva.
err-not-found-case = no existe ese caso
do-not-found-case = `martlet cases` muestra la lista de casos.
err-not-found-member = no existe ese miembro en el caso
do-not-found-member = `martlet cases` muestra los miembros de cada caso.
err-not-found-document = no existe ese documento en el caso
do-not-found-document = `martlet read CASE --all` muestra los documentos de un caso.
err-not-found-invite = no existe esa invitación
do-not-found-invite = `martlet invites` muestra sus invitaciones.

err-refused = el relé lo ha rechazado: { $detail }
do-refused = Lo que se iba a enviar se conserva. Inténtelo más tarde; si continúa, pregunte a quien administra el relé.
err-protocol = el relé o un interlocutor incumple el protocolo: { $detail }
do-protocol = No se ha mostrado nada que no se pudiera comprobar. Actualice martlet; si continúa, avise a quien administra el relé.
err-partly = interrumpido; al ejecutar la orden de nuevo, continuará desde aquí
do-partly = Ejecute otra vez la misma orden; continúa donde se detuvo.
err-internal = error interno: { $detail }
do-internal = Es un fallo de martlet. Su bóveda se conserva; por favor, comuníquelo.

warn-relay-differs = ATENCIÓN: el relé ha mostrado cosas distintas a personas distintas. Hable con las demás por otro medio.
warn-relay-forgot = El relé ha perdido el canal de este caso. Las cartas esperan aquí hasta que el dispositivo del abogado esté en línea.
warn-lost = Este dispositivo ya no puede seguir el caso. Pida una invitación nueva.
warn-unknown = ATENCIÓN: hay un problema que esta versión no sabe describir. Actualice martlet.

err-passphrase-empty = la frase de contraseña está vacía
err-passphrase-differs = las dos frases de contraseña son distintas
err-passphrase-needed = se necesita una frase de contraseña: use `--passphrase-file FILE` o `--passphrase-fd N`, o ejecute la orden en un terminal
ask-passphrase = Frase de contraseña:
ask-again = La misma otra vez:
ask-how = Una frase de contraseña hecha para usted: 1 para seis palabras, 2 para cifras. O pulse Intro para escribir la suya:
tell-made = Esta es su frase de contraseña; se muestra una sola vez. Anótela y escóndala bien; los espacios cuentan. Nadie puede restablecerla.
